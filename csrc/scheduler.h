// Chooses the tokens of one step: at most one ubatch, the decoding slots first, with the text that was forced, then
// prefill chunks, while somebody decodes within the step's budget. Pure: it reads the slots and changes nothing. Engine
// thread.
//
// The prompt with the least left goes first, and each token of others that a prompt is passed by counts as one that it
// has less. So a prompt waits for those that came later for about as many tokens as it has itself, and no longer. One
// that others wait for goes as early as the shortest of them would.
//
// Media is decoded from embeddings, which share no step with tokens: while somebody decodes, by turns with the others;
// as many rows as the budget has, or, where a chunk's rows see each other in both directions, all of them.
//
// Slots under different LoRA sets cannot share a step. Each step is of the set that was served longest ago: none waits
// for more steps than there are sets.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "slot.h"
#include "step_budget.h"

namespace pyllama {

struct schedule_limits {
    int32_t n_ubatch = 512;
    // Memory that splits a batch into several passes (one stream per sequence, recurrent states), one for each run of
    // sequences that follow one another with as many tokens: decode and prefill alternate instead of sharing a step.
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
    explicit scheduler(schedule_limits limits, double budget_ms = -1)
        : limits_(limits), budget_({budget_ms, limits.n_ubatch}) {}

    // Empty when no slot has anything to do.
    std::vector<chunk> next(std::vector<slot> & slots);

    // The step that next() chose last took `ms`.
    void observe(double ms) { budget_.observe(load_, ms); }

    // What a step would take in which nobody decodes; 0: nothing is known of it.
    double first_step_ms(size_t n_tokens) const {
        const auto n_ubatch = static_cast<size_t>(limits_.n_ubatch);
        return budget_.cost().prefill(static_cast<int32_t>(std::min(n_tokens, n_ubatch)), 0, 0);
    }

    // What that step was chosen for, and the budget that it was chosen by.
    const step_demand & demand() const { return demand_; }
    const step_budget & budget() const { return budget_; }

  private:
    uint64_t last_served(const std::vector<slot *> & among, const lora_set & set) const;
    std::optional<bool> keep_one_class(std::vector<slot *> & decoding, std::vector<slot *> & prefilling);
    void sort_prefilling(std::vector<slot *> & prefilling, std::vector<slot *> & waiting);
    void count_passed(const std::vector<slot *> & slots, const std::vector<chunk> & plan, int32_t n_prompt);
    void note_served(const std::vector<chunk> & plan);
    void add_decode(const std::vector<slot *> & decoding, int32_t more, std::vector<chunk> & plan);
    bool media_turn(bool decoding, std::vector<slot *> & prefilling);
    chunk next_rows(slot & target, int32_t budget) const;
    int32_t prefill_size(const slot & target, int32_t n_most) const;
    void add_prefill(const std::vector<slot *> & prefilling, int32_t budget, std::vector<chunk> & plan) const;
    void add_prefill_runs(const std::vector<slot *> & prefilling, int32_t budget, std::vector<chunk> & plan) const;
    std::vector<slot *> take_tails(const std::vector<slot *> & decoding, std::vector<slot *> & prefilling) const;
    void add_tails(const std::vector<slot *> & tails, std::vector<chunk> & plan) const;

    // Of the prompt that is, or was last, in a slot.
    struct passed {
        uint64_t assigned = 0;
        int64_t n_tokens = 0;  // of other prompts that were chosen instead of it
    };

    schedule_limits limits_;
    step_budget budget_;
    step_demand demand_;
    step_load load_;
    std::vector<passed> passed_;  // by slot
    uint64_t n_mixed_ = 0;        // steps that had both
    bool decoded_last_ = false;
    bool waited_last_ = false;      // the decoding slots waited for the last step
    bool rows_last_ = false;        // the last step decoded media
    std::vector<uint64_t> served_;  // with LoRA: by slot, the step that it was last part of
    uint64_t n_steps_ = 0;
    size_t first_decode_ = 0;  // rotates when there are more decoding slots than fit into a step
};

}  // namespace pyllama
