// Which tokens a request's sampler chain chooses from: the whole row of logits, or only those that can matter, so that
// the chain never sees the vocabulary. Logit biases are applied here. One per request; any one thread at a time.
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <vector>

#include "common.h"
#include "llama.h"

namespace pyllama {

class candidate_selector {
  public:
    // Throws error(invalid_request) for a bias of a token that does not exist.
    candidate_selector(const llama_vocab * vocab, const common_params_sampling & sampling);

    // A token that the chain was told of: its penalties may change that token's logit.
    void accept(llama_token token);

    // A bias on top of the others, for the next selections; 0 takes it back.
    void prefer(llama_token token, float bias) { preferred_ = {token, bias}; }

    // Fills `out`. Returns whether the largest logit comes first.
    bool select(const float * row, bool whole_row, std::vector<llama_token_data> & out);

    // The chain does nothing but take the largest logit.
    bool greedy() const { return greedy_; }

  private:
    const std::vector<llama_logit_bias> & biases();
    void select_all(const float * row, const std::vector<llama_logit_bias> & biases,
                    std::vector<llama_token_data> & out) const;
    void replace_changed(const float * row, const std::vector<llama_logit_bias> & biases,
                         std::vector<llama_token_data> & out) const;

    int32_t n_vocab_;
    bool greedy_;
    int32_t first_top_k_;                   // > 0: top-k is the first sampler that may drop a token
    std::vector<llama_logit_bias> biases_;  // sorted by token, one each
    llama_logit_bias preferred_{0, 0.0f};
    std::vector<llama_logit_bias> with_preferred_;
    size_t n_remembered_;
    std::deque<llama_token> recent_;               // the last n_remembered_ tokens
    std::unordered_map<llama_token, int> counts_;  // of each of them
};

}  // namespace pyllama
