// A slot: one sequence of the KV cache, and the generation that runs in it, if any. Engine thread only.
//
//   idle --assign--> prefill --last prompt token decoded--> decode --> idle
//                       \--pause--> paused --resume--/  (from and to either)
//
// Decoding takes one token a step, and with it all the text that was forced since the last one.
//
// `cached` lists the tokens whose KV entries the sequence holds, in order of position; it outlives the
// generation, so that the next one may reuse its prefix.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "generation.h"

namespace pyllama {

enum class slot_state { idle, prefill, decode, paused };

struct slot {
    int32_t id = 0;
    llama_seq_id sequence = 0;
    std::vector<llama_token> cached;
    std::unique_ptr<generation> running;
    uint64_t last_used = 0;  // step of the last release: the least recently used idle slot is taken
    uint64_t assigned = 0;   // order of assignment: prefill is first come, first served

    slot_state state() const;

    // More is to be decoded than the token that was sampled last and the text that was forced since.
    bool prefilling() const;

    // Tokens of the running generation that are not in the KV cache yet.
    int32_t n_pending() const;

    // Length of the common prefix of `tokens` and the cache.
    int32_t common_prefix(const std::vector<llama_token> & tokens) const;
};

// Makes the sequence hold exactly its first n tokens and says how many it then really holds: n, or 0 when the
// memory cannot keep a partial sequence (then it is cleared). See the rule in docs/engine-notes.md.
int32_t keep_prefix(llama_context * ctx, slot & slot, int32_t n);

// Forgets everything the sequence holds.
void clear_cache(llama_context * ctx, slot & slot);

}  // namespace pyllama
