// A request's sampler: llama.cpp's sampler chain and grammar, with our own selection in front and our own
// rule for when a grammar applies. Made on the caller's thread, used by the engine thread (or by one thread of
// its team at a time). It reads raw rows of logits and never touches the llama_context.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "candidates.h"
#include "grammar_trigger.h"
#include "llama-cpp.h"
#include "prompt.h"
#include "reasoning_budget.h"

namespace pyllama {

class slot_sampler {
  public:
    // `prompt`: what penalties find repeated, an answer that is continued here included. Throws error(invalid_request)
    // for parameters out of range and grammars that do not parse.
    slot_sampler(const llama_vocab * vocab, const generation_params & params, const llama_tokens & prompt = {});
    slot_sampler(slot_sampler &&) = delete;

    // Chooses the next token. Throws error(engine) when no token is allowed.
    llama_token sample(const float * row);

    // Tells chain, grammar and reasoning tracker about a token of the answer. Never aborts: a token that the
    // grammar does not allow throws error(engine).
    void accept(llama_token token);

    // Tells all of them about tokens that nobody sampled, as if the model had said them: random numbers and adaptive
    // samplers do not move. False, with nothing changed, when the grammar does not allow them.
    bool force(const llama_tokens & tokens);

    // Takes over another's chain and biases, and tells them the tokens said so far. Keeps the grammar and the
    // reasoning, and unless `reseed`, what draws the random numbers.
    void take_chain(slot_sampler & fresh, const std::vector<llama_token> & said, bool reseed);

    // The chosen token's and the n_top likeliest tokens' logprobs, of the row as the model gave it.
    piece_logprobs logprobs(const float * row, llama_token token, int32_t n_top);

    // The same of what the chain left to choose from, as the last sample() did; n_top at most.
    piece_logprobs final_logprobs(llama_token token, int32_t n_top);

    const reasoning_budget & reasoning() const { return reasoning_; }
    reasoning_budget & reasoning() { return reasoning_; }

  private:
    std::string tag_text(llama_token token) const;
    bool grammar_applies() const;
    bool grammar_allows(llama_token token);
    std::string text_of(llama_token token) const;
    void tell_chain(llama_token token);
    void tell_grammar(llama_token token);
    void accept_in_grammar(llama_token token, bool applied, const llama_tokens * ended);
    void candidates(const float * row, bool whole_row);
    llama_token choose();

    const llama_vocab * vocab_;
    int32_t n_vocab_;
    llama_sampler_ptr chain_;
    llama_sampler_ptr grammar_;
    bool grammar_lazy_ = false;
    grammar_trigger trigger_;
    candidate_selector selector_;
    reasoning_budget reasoning_;
    llama_token end_token_;    // the first of what ends the reasoning; null when it cannot be ended by force
    bool reads_text_ = false;  // of tokens, for tags
    std::mt19937 numbers_;     // the same as those of the sampler that draws last, one a choice
    bool shows_rest_;          // what the chain leaves besides the token it chooses
    std::vector<llama_token_data> candidates_;
    size_t n_left_ = 0;  // of candidates_, after the chain
    selection selection_;
};

}  // namespace pyllama
