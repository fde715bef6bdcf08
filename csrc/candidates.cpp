#include "candidates.h"

#include <algorithm>
#include <limits>
#include <string>

#include "errors.h"
#include "logit_row.h"
#include "sampler_chain.h"

namespace pyllama {

namespace {

bool before(const llama_logit_bias & a, const llama_logit_bias & b) {
    return a.token < b.token;
}

// Request and model biases, one per token: contradicting entries add up, as in llama.cpp's own sampler.
std::vector<llama_logit_bias> merged_biases(const llama_vocab * vocab, const common_params_sampling & sampling) {
    std::vector<llama_logit_bias> biases = sampling.logit_bias;
    int32_t n_suppressed = 0;
    const llama_token * suppressed = llama_vocab_get_suppress_tokens(vocab, &n_suppressed);
    for (int32_t i = 0; i < n_suppressed; ++i) {
        biases.push_back({suppressed[i], -std::numeric_limits<float>::infinity()});
    }
    std::stable_sort(biases.begin(), biases.end(), before);
    std::vector<llama_logit_bias> merged;
    for (const auto & bias : biases) {
        if (!merged.empty() && merged.back().token == bias.token) {
            merged.back().bias += bias.bias;
        } else {
            merged.push_back(bias);
        }
    }
    return merged;
}

bool is_biased(const std::vector<llama_logit_bias> & biases, llama_token token) {
    return std::binary_search(biases.begin(), biases.end(), llama_logit_bias{token, 0.0f}, before);
}

}  // namespace

candidate_selector::candidate_selector(const llama_vocab * vocab, const common_params_sampling & sampling)
    : n_vocab_(llama_vocab_n_tokens(vocab)),
      greedy_(is_greedy(sampling)),
      first_top_k_(leading_top_k(sampling)),
      biases_(merged_biases(vocab, sampling)),
      n_remembered_(n_remembered(sampling)) {
    for (const auto & bias : biases_) {
        if (bias.token < 0 || bias.token >= n_vocab_) {
            throw bad_request("logit_bias: token " + std::to_string(bias.token) + " is not in the vocabulary of " +
                                  std::to_string(n_vocab_) + " tokens",
                              "logit_bias");
        }
    }
}

void candidate_selector::accept(llama_token token) {
    if (n_remembered_ == 0) {
        return;
    }
    recent_.push_back(token);
    ++counts_[token];
    if (recent_.size() > n_remembered_) {
        const auto oldest = counts_.find(recent_.front());
        if (--oldest->second == 0) {
            counts_.erase(oldest);
        }
        recent_.pop_front();
    }
}

const std::vector<llama_logit_bias> & candidate_selector::biases() {
    if (preferred_.bias == 0.0f) {
        return biases_;
    }
    with_preferred_ = biases_;
    const auto at = std::lower_bound(with_preferred_.begin(), with_preferred_.end(), preferred_, before);
    if (at != with_preferred_.end() && at->token == preferred_.token) {
        at->bias += preferred_.bias;
    } else {
        with_preferred_.insert(at, preferred_);
    }
    return with_preferred_;
}

void candidate_selector::select_all(const float * row, const std::vector<llama_logit_bias> & biases,
                                    std::vector<llama_token_data> & out) const {
    out.resize(static_cast<size_t>(n_vocab_));
    for (int32_t id = 0; id < n_vocab_; ++id) {
        out[static_cast<size_t>(id)] = {id, row[id], 0.0f};
    }
    for (const auto & bias : biases) {
        out[static_cast<size_t>(bias.token)].logit += bias.bias;
    }
}

// Puts the tokens whose logits are not the row's, or will not be, in place of what the row says of them.
void candidate_selector::replace_changed(const float * row, const std::vector<llama_logit_bias> & biases,
                                         std::vector<llama_token_data> & out) const {
    const auto changes = [&](const llama_token_data & candidate) {
        return counts_.count(candidate.id) > 0 || is_biased(biases, candidate.id);
    };
    out.erase(std::remove_if(out.begin(), out.end(), changes), out.end());
    for (const auto & bias : biases) {
        out.push_back({bias.token, row[bias.token] + bias.bias, 0.0f});
    }
    for (const auto & [token, count] : counts_) {
        if (!is_biased(biases, token)) {
            out.push_back({token, row[token], 0.0f});
        }
    }
    std::sort(out.begin(), out.end(), larger);
}

bool candidate_selector::select(const float * row, bool whole_row, std::vector<llama_token_data> & out) {
    const std::vector<llama_logit_bias> & now = biases();
    const auto wanted = static_cast<size_t>(greedy_ ? 1 : first_top_k_);
    const size_t n_changed = now.size() + counts_.size();
    if (whole_row || wanted == 0 || wanted + n_changed > static_cast<size_t>(n_vocab_) / 4) {
        select_all(row, now, out);
        return false;
    }
    if (greedy_ && n_changed == 0) {
        const llama_token best = select_greedy(row, n_vocab_);
        out.clear();
        if (best != LLAMA_TOKEN_NULL) {
            out.push_back({best, row[best], 0.0f});
        }
        return true;
    }
    // After the biases and the penalties, the best `wanted` are among the tokens that these change and the best
    // `wanted` of the others.
    select_top_k(row, n_vocab_, static_cast<int32_t>(wanted + n_changed), out);
    if (n_changed > 0) {
        replace_changed(row, now, out);
    }
    if (counts_.empty() && out.size() > wanted) {
        out.resize(wanted);
    }
    return true;
}

}  // namespace pyllama
