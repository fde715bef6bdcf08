// Builds llama.cpp's samplers from a request's sampling parameters. Pure; any thread.
#pragma once

#include <vector>

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

// What the first of a chain's samplers that looks beyond single tokens does with them.
enum class first_look {
    top_k,
    top_p,
    min_p,
    top_n_sigma,
    mirostat_v2,
    draw,    // the choice itself: nothing drops a token
    sorted,  // everything, the largest first
    other,
};

// The samplers in front of that one each change logits one by one: of n_remembered() tokens (penalties), or all of them
// by a division (temperature), or nothing.
struct chain_head {
    first_look look = first_look::other;
    // In the chain's order; COMMON_SAMPLER_TYPE_NONE for one that does nothing.
    std::vector<common_sampler_type> before;
};

chain_head head_of(const common_params_sampling & sampling);

// Whether the chain's choice is the largest logit, whatever the other parameters are.
bool is_greedy(const common_params_sampling & sampling);

}  // namespace pyllama
