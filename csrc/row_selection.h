// What llama.cpp's samplers would leave of a row of logits, or draw from it, without the row as candidates. The same
// tokens as theirs: where they sum in single precision, so is it done here, in their order, without what such a sum
// does not feel; where they draw, sums that are near are enough unless the number drawn is as near. Equal logits that
// they leave in any order are in the order of their ids. NaN and -infinity are never selected. Pure functions; any
// thread.
#pragma once

#include <cstdint>
#include <vector>

#include "llama.h"

namespace pyllama {

// All logits, largest first.
void sort_row(const float * row, int32_t n_vocab, std::vector<llama_token_data> & out);

// Logits of at least `lowest`, in the order of their ids.
void select_from(const float * row, int32_t n_vocab, float lowest, std::vector<llama_token_data> & out);

// What the min-p sampler leaves, in the order of their ids. 0 < p <= 1.
void select_min_p(const float * row, int32_t n_vocab, float p, std::vector<llama_token_data> & out);

// What the top-p sampler leaves, largest first.
void select_top_p(const float * row, int32_t n_vocab, float p, size_t min_keep, std::vector<llama_token_data> & out);

// What the top-n-sigma sampler leaves, in the order of their ids: logits of at least the largest less so many standard
// deviations. False, and nothing of use, where those logits' squares are beyond single precision.
bool select_sigmas(const float * row, int32_t n_vocab, float n_sigmas, std::vector<llama_token_data> & out);

// What matters to a sampler that sorts the row, normalises it in that order, and drops the tokens whose -log2 of the
// probability is above `surprise`; the largest first.
void select_surprise(const float * row, int32_t n_vocab, float surprise, std::vector<llama_token_data> & out);

// The token that the sampler of the distribution draws with the number u from [0, 1); LLAMA_TOKEN_NULL when it is too
// close to the next one's to tell.
llama_token draw_from(const float * row, int32_t n_vocab, double u, std::vector<double> & block_sums);

}  // namespace pyllama
