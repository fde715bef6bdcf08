// Chooses the tokens of one step: at most one ubatch, the decoding slots first, with the text that was forced, then
// prefill chunks in order of assignment. Pure: it reads the slots and changes nothing. Engine thread.
//
// Slots under different LoRA sets cannot share a step. Each step is of the set that was served longest ago: none waits
// for more steps than there are sets.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "slot.h"

namespace pyllama {

struct schedule_limits {
    int32_t n_ubatch = 512;
    // Memory that splits a mixed batch into several passes (one stream per sequence, recurrent states): decode
    // and prefill alternate instead of sharing a step.
    bool alternate = false;
    bool lora = false;   // slots may differ in their LoRA sets: a step is of one
    int32_t n_last = 0;  // tokens of a prompt that are a chunk of their own, behind its last checkpoint; 0 = none
};

// Tokens [begin, end) of the slot's generation.
struct chunk {
    slot * target = nullptr;
    int32_t begin = 0;
    int32_t end = 0;
    bool wants_logits = false;  // it reaches the generation's last token
};

class scheduler {
  public:
    explicit scheduler(schedule_limits limits) : limits_(limits) {}

    // Empty when no slot has anything to do.
    std::vector<chunk> next(std::vector<slot> & slots);

  private:
    uint64_t last_served(const std::vector<slot *> & among, const lora_set & set) const;
    std::optional<bool> keep_one_class(std::vector<slot *> & decoding, std::vector<slot *> & prefilling);
    void add_decode(const std::vector<slot *> & decoding, int32_t & budget, std::vector<chunk> & plan);
    void add_prefill(const std::vector<slot *> & prefilling, int32_t & budget, std::vector<chunk> & plan) const;

    schedule_limits limits_;
    bool decoded_last_ = false;
    std::vector<uint64_t> served_;  // with LoRA: by slot, the step that it was last part of
    uint64_t n_steps_ = 0;
    size_t first_decode_ = 0;  // rotates when there are more decoding slots than fit into a step
};

// The largest size from a small set that is at most n: few sizes, so that compute graphs are reused.
int32_t chunk_size(int32_t n);

}  // namespace pyllama
