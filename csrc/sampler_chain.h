// Builds llama.cpp's samplers from a request's sampling parameters. Pure; any thread.
#pragma once

#include "common.h"
#include "llama-cpp.h"

namespace pyllama {

// The chain without logit biases (slot_sampler applies those itself), always ending in a sampler that selects.
// Throws error(invalid_request) naming the parameter that is out of range.
llama_sampler_ptr make_sampler_chain(const llama_vocab * vocab, const common_params_sampling & sampling);

// How many of the tokens before it the chain's penalties look at; 0 when none of them does anything.
size_t n_remembered(const common_params_sampling & sampling);

// The grammar sampler, already fed with the generation prompt where its kind wants that; null without grammar.
// Throws error(invalid_request) when the grammar does not parse.
llama_sampler_ptr make_grammar_sampler(const llama_vocab * vocab, const common_params_sampling & sampling);

// How many candidates may be taken before the chain runs, because top-k is the first of its samplers that looks beyond
// single tokens: what stands before it changes the logits of n_remembered() tokens at most. 0 when the chain needs the
// whole row.
int32_t leading_top_k(const common_params_sampling & sampling);

// Whether the chain's choice is the largest logit, whatever the other parameters are.
bool is_greedy(const common_params_sampling & sampling);

}  // namespace pyllama
