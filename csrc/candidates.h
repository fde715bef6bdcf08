// Which tokens a request's sampler chain chooses from: the whole row of logits, or only those that can matter, so that
// the chain never sees the vocabulary. Logit biases are applied here. One per request; any one thread at a time.
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <vector>

#include "common.h"
#include "llama.h"
#include "sampler_chain.h"

namespace pyllama {

// What select() did.
struct selection {
    bool sorted = false;    // the largest logit comes first
    int32_t n_applied = 0;  // of the chain's samplers, the first ones: what they would do is done
};

class candidate_selector {
  public:
    // Throws error(invalid_request) for a bias of a token that does not exist.
    candidate_selector(const llama_vocab * vocab, const common_params_sampling & sampling);

    // A token that the chain was told of: its penalties may change that token's logit.
    void accept(llama_token token);

    // A bias on top of the others, for the next selections; 0 takes it back.
    void prefer(llama_token token, float bias) { preferred_ = {token, bias}; }

    // Fills `out` with what `chain` chooses from, which is made of the same parameters.
    selection select(llama_sampler * chain, const float * row, bool whole_row, std::vector<llama_token_data> & out);

    // Fills `out` with the one token that the chain draws with u from [0, 1), where nothing but draws() is left to do:
    // false when that is too close to tell.
    bool draw(llama_sampler * chain, const float * row, double u, std::vector<llama_token_data> & out);

    // The chain drops no token before it draws.
    bool draws() const { return !greedy_ && head_.look == first_look::draw; }
    // All of it but what draws.
    selection all_but_draw() const { return {true, static_cast<int32_t>(head_.before.size())}; }

    // The probability that the chain gave the token it chose.
    void chosen(float probability);

    // The chain does nothing but take the largest logit.
    bool greedy() const { return greedy_; }

  private:
    const std::vector<llama_logit_bias> & biases();
    bool changes_row(const std::vector<llama_logit_bias> & biases) const;
    const float * changed_row(llama_sampler * chain, const float * row, const std::vector<llama_logit_bias> & biases);
    bool select_by_look(const float * row, std::vector<llama_token_data> & out, selection & done) const;
    void select_all(const float * row, const std::vector<llama_logit_bias> & biases,
                    std::vector<llama_token_data> & out) const;
    void replace_changed(const float * row, const std::vector<llama_logit_bias> & biases,
                         std::vector<llama_token_data> & out) const;

    int32_t n_vocab_;
    bool greedy_;
    chain_head head_;
    bool divides_ = false;  // a temperature is in the head
    // Parameters of what looks first.
    float temp_;
    int32_t top_k_;
    float top_p_;
    float min_p_;
    float top_n_sigma_;
    size_t min_keep_;
    float mirostat_mu_, mirostat_tau_, mirostat_eta_;  // its sampler's own state, which nothing tells
    std::vector<float> changed_row_;
    std::vector<llama_token_data> changed_;
    std::vector<double> block_sums_;
    std::vector<llama_logit_bias> biases_;  // sorted by token, one each
    llama_logit_bias preferred_{0, 0.0f};
    std::vector<llama_logit_bias> with_preferred_;
    size_t n_remembered_;
    std::deque<llama_token> recent_;               // the last n_remembered_ tokens
    std::unordered_map<llama_token, int> counts_;  // of each of them
};

}  // namespace pyllama
