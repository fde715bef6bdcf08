// Selection straight from a row of raw logits, so that the sampler chain never sees the whole vocabulary
// when top-k comes first anyway. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <vector>

#include "llama.h"

namespace pyllama {

// The order of candidates: the larger logit first, equal ones in the order of their ids.
inline bool larger(const llama_token_data & a, const llama_token_data & b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

// The largest logit, whatever is NaN; -infinity when there is none.
float largest(const float * row, int32_t n_vocab);

// The k largest logits, largest first, equal ones in the order of their ids. NaN is never selected.
// `out` is overwritten; fewer than k when the row has fewer usable values.
void select_top_k(const float * row, int32_t n_vocab, int32_t k, std::vector<llama_token_data> & out);

// The largest logit's token, the first of equal ones; LLAMA_TOKEN_NULL when every value is NaN.
llama_token select_greedy(const float * row, int32_t n_vocab);

// Logarithm of the sum of exponentials of the row: logprob(i) = row[i] - log_sum_exp(row).
float log_sum_exp(const float * row, int32_t n_vocab);

}  // namespace pyllama
