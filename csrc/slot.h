// A slot: one sequence of the KV cache, and the generation that runs in it, if any. Engine thread only.
//
//   idle --assign--> prefill --last prompt token decoded--> decode --> idle
//     |                  \--pause--> paused --resume--/  (from and to either)
//     \--reserve--> reserved --the leader's prompt decoded--> decode
//
// A leader brings its other choices to the slots that are reserved for it. They get its cache by a copy, which in a
// unified cache is a share in its cells.
//
// Decoding takes one token a step, and with it all the text that was forced since the last one.
//
// `cached` lists the tokens whose KV entries the sequence holds, in order of position; it outlives the
// generation, so that the next one may reuse its prefix.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "checkpoint.h"
#include "generation.h"
#include "lora.h"

namespace pyllama {

enum class slot_state { idle, reserved, prefill, decode, paused };

struct slot {
    static constexpr int32_t all_exact = std::numeric_limits<int32_t>::max();

    int32_t id = 0;
    llama_seq_id sequence = 0;
    std::vector<llama_token> cached;
    std::unique_ptr<generation> running;
    uint64_t last_used = 0;               // step of the last release: the least recently used idle slot is taken
    uint64_t assigned = 0;                // order of assignment: prefill is first come, first served
    const slot * reserved_for = nullptr;  // a leader's slot; then nothing runs here and nothing is cached
    lora_set lora;                        // the adapters that the cache was computed with
    // The first tokens whose entries are what a prefill of them gives; those behind were moved by a shift.
    int32_t n_exact = all_exact;
    bool unsettled = false;  // a shift or a copy waits for the next decode, which applies it
    std::vector<checkpoint> checkpoints;
    // Slots of one sharing hold the same cells for their first n_shared tokens; 0 = it shares with nobody.
    uint64_t sharing = 0;
    int32_t n_shared = 0;

    bool is_idle() const { return !running && reserved_for == nullptr; }

    slot_state state() const;

    // More is to be decoded than the token that was sampled last and the text that was forced since.
    bool prefilling() const;

    // Tokens of the running generation that are not in the KV cache yet.
    int32_t n_pending() const;

    // Length of the common prefix of `tokens` and the cache.
    int32_t common_prefix(const std::vector<llama_token> & tokens) const;

    // How much of the generation's tokens the cache holds as they would be computed for it.
    int32_t usable_prefix(const generation & next) const;
};

// Makes the sequence hold exactly its first n tokens and says how many it then really holds: n, or less when the
// memory cannot keep a partial sequence: what its best checkpoint holds, or nothing. See the rule in
// docs/engine-notes.md.
int32_t keep_prefix(llama_context * ctx, slot & slot, int32_t n);

// Whether the memory holds the slot's whole sequence: as much as it needs to go on behind it.
bool holds_whole(llama_context * ctx, const slot & slot);

// Gives an empty slot's sequence everything that `from` holds. False, with the sequence empty again, when the memory
// did not copy it whole.
bool copy_cache(llama_context * ctx, const slot & from, slot & to);

// Forgets everything the sequence holds.
void clear_cache(llama_context * ctx, slot & slot);

}  // namespace pyllama
