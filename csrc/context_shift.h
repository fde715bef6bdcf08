// Moving what the KV cache holds to other positions: a context that is full drops tokens from its middle and goes on,
// and chunks of an old prompt are used where the new one has them. What was moved is close to what a prefill would
// give, and not the same; see slot::n_exact. Engine thread, but for choose_dropped, which is pure.
#pragma once

#include <cstdint>
#include <vector>

#include "common.h"
#include "slot.h"

namespace pyllama {

// Tokens [begin, begin + n).
struct token_range {
    int32_t begin = 0;
    int32_t n = 0;
};

// Which tokens a context of n_ctx drops so that n_tokens fit again, of which the last n_fresh are not decoded yet: none
// of the first n_keep, none of the fresh ones, and of the others n_discard, or half of them when that is 0.
token_range choose_dropped(int32_t n_tokens, int32_t n_fresh, int32_t n_ctx, int32_t n_keep, int32_t n_discard);

// Whether this memory can move its entries. A kind of quantised keys ends the process when it does.
bool can_shift(const llama_context * ctx, const common_params & params);

// Takes the range out of what the slot's sequence holds. Where cells behind its begin are other sequences' too, the
// sequence keeps what is in front of it instead, and the rest is a prefill.
void drop_from_cache(llama_context * ctx, slot & slot, const token_range & dropped);

// n tokens of an old list that a new one has further up front, or at the same place.
struct moved_chunk {
    size_t from = 0;
    size_t to = 0;
    size_t n = 0;
};

// Behind the first `kept` tokens, which both lists have: chunks of at least n_least tokens of `old`, in order, that
// give `tokens` without a gap, but for its last token, which gives the logits. Linear in both lists, whatever is in
// them. n_compared: counts the tokens that were looked at, when it is not null.
std::vector<moved_chunk> find_chunks(const std::vector<llama_token> & old, const std::vector<llama_token> & tokens,
                                     size_t kept, size_t n_least, size_t * n_compared = nullptr);

// The slot's cache begins with `kept` of `tokens`. Looks behind them for chunks of at least n_least tokens that
// `tokens` has further up front, and moves them there. Returns how many of `tokens` the cache then begins with; it
// holds nothing else.
int32_t reuse_chunks(llama_context * ctx, slot & slot, const std::vector<llama_token> & tokens, int32_t kept,
                     int32_t n_least);

}  // namespace pyllama
