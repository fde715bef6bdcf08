// A slot: one sequence of the KV cache, and the generation that runs in it, if any. Engine thread only.
//
//   idle --assign--> prefill --last prompt token decoded--> decode --> idle
//     |   \            |  \--pause--> paused --resume--/  (from and to either)
//     |    \--> waiting --its prefix is there-->/
//     \--reserve--> reserved --the leader's prompt decoded--> decode
//
// A slot whose next tokens are media that is being encoded is in the state `encoding`; else it is like prefill.
//
// A slot waits while another one decodes what both prompts begin with; then it takes that prefix and decodes the rest.
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
#include <string>
#include <vector>

#include "cached_tokens.h"
#include "checkpoint.h"
#include "generation.h"
#include "lora.h"

namespace pyllama {

enum class slot_state { idle, reserved, waiting, encoding, prefill, decode, paused };

struct slot;

// A prefix of n tokens that another slot's generation is decoding.
struct awaited_prefix {
    const slot * from = nullptr;  // null = nothing is waited for
    uint64_t assigned = 0;        // what from->assigned was: another generation may have taken the slot
    int32_t n = 0;
};

// What a slot's generation found in the KV cache when it began.
struct taken_prefix {
    int32_t n = 0;
    int32_t id_slot = -1;    // whose cells they are, where they are shared
    bool from_host = false;  // --cache-ram had them
};

struct slot {
    static constexpr int32_t all_exact = std::numeric_limits<int32_t>::max();

    int32_t id = 0;
    llama_seq_id sequence = 0;
    cached_tokens cached;
    std::unique_ptr<generation> running;
    uint64_t last_used = 0;               // step of the last release: the least recently used idle slot is taken
    uint64_t assigned = 0;                // order of assignment: prefill is first come, first served
    const slot * reserved_for = nullptr;  // a leader's slot; then nothing runs here and nothing is cached
    lora_set lora;                        // the adapters that the cache was computed with
    std::string domain;                   // and whose it is: see generation_params
    // The first tokens whose entries are what a prefill of them gives; those behind were moved by a shift.
    int32_t n_exact = all_exact;
    bool unsettled = false;  // a shift or a copy waits for the next decode, which applies it
    std::vector<checkpoint> checkpoints;
    awaited_prefix awaited;
    taken_prefix taken;

    bool is_idle() const { return !running && reserved_for == nullptr; }

    slot_state state() const;

    // More is to be decoded than the token that was sampled last and the text that was forced since.
    bool prefilling() const;

    // Tokens of the running generation that are not in the KV cache yet.
    int32_t n_pending() const;

    // The media that comes next, when it is not text; null else.
    const media_span * next_media() const;

    // How many of those tokens are of one kind: text, or one chunk of media.
    int32_t n_alike() const;

    // What is computed next is the generation's.
    void take_origin(const generation_params & params) {
        lora = params.lora;
        domain = params.domain;
    }

    // How much of the generation's tokens the cache holds as they would be computed for it.
    int32_t usable_prefix(const generation & next) const;
};

// Whether what was computed for one may be a prefix of the other: under the same adapters, and within one domain.
template <typename A, typename B>
bool same_origin(const A & a, const B & b) {
    return same_set(a.lora, b.lora) && a.domain == b.domain;
}

// How many tokens two lists begin with alike.
int32_t common_prefix(const std::vector<llama_token> & a, const std::vector<llama_token> & b);

// Makes the sequence hold exactly its first n tokens and says how many it then really holds: n, or less when the
// memory cannot keep a partial sequence: what its best checkpoint holds, or nothing. See the rule in
// docs/engine-notes.md.
int32_t keep_prefix(llama_context * ctx, slot & slot, int32_t n);

// Whether the memory holds the slot's whole sequence: as much as it needs to go on behind it.
bool holds_whole(llama_context * ctx, const slot & slot);

// Gives an empty slot's sequence everything that `from` holds; shared: in the same cells, as a unified cache has it.
// False, with the sequence empty again, when the memory did not copy it whole.
bool copy_cache(llama_context * ctx, const slot & from, slot & to, bool shared);

// How much of the first n tokens share_prefix() could give where there are no parts: all of them when the sequence
// holds no more, else what its last checkpoint within them holds.
int32_t whole_prefix(const slot & from, int32_t n);

// Gives an empty slot's sequence the cells of the first n tokens of `from`, which goes on using them, in a unified
// cache. parts: whether the memory has entries for every token; else everything is copied, and rolled back. Returns how
// many tokens the sequence then holds: n, or 0 when they are not whole.
int32_t share_prefix(llama_context * ctx, const slot & from, slot & to, int32_t n, bool parts);

// The first n tokens, which both sequences hold in cells of their own, are `from`'s cells for both then; in a unified
// cache with entries for every token. False, with `to` empty, when it is not whole after that.
bool join_prefix(llama_context * ctx, const slot & from, slot & to, int32_t n);

// Forgets everything the sequence holds.
void clear_cache(llama_context * ctx, slot & slot);

}  // namespace pyllama
