#include "candidates.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "errors.h"
#include "logit_row.h"
#include "row_selection.h"

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
      head_(head_of(sampling)),
      divides_(std::count(head_.before.begin(), head_.before.end(), COMMON_SAMPLER_TYPE_TEMPERATURE) > 0),
      temp_(sampling.temp),
      top_k_(sampling.top_k),
      top_p_(sampling.top_p),
      min_p_(sampling.min_p),
      top_n_sigma_(sampling.top_n_sigma),
      min_keep_(static_cast<size_t>(std::max(sampling.min_keep, 0))),
      mirostat_mu_(2.0f * sampling.mirostat_tau),
      mirostat_tau_(sampling.mirostat_tau),
      mirostat_eta_(sampling.mirostat_eta),
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

bool candidate_selector::changes_row(const std::vector<llama_logit_bias> & biases) const {
    return divides_ || !biases.empty() || !counts_.empty();
}

// The row as the first sampler of the chain that looks beyond single tokens finds it.
const float * candidate_selector::changed_row(llama_sampler * chain, const float * row,
                                              const std::vector<llama_logit_bias> & biases) {
    if (!changes_row(biases)) {
        return row;
    }
    changed_row_.assign(row, row + n_vocab_);
    for (const auto & bias : biases) {
        changed_row_[static_cast<size_t>(bias.token)] += bias.bias;
    }
    for (size_t i = 0; i < head_.before.size(); ++i) {
        if (head_.before[i] == COMMON_SAMPLER_TYPE_TEMPERATURE) {
            for (float & logit : changed_row_) {
                logit /= temp_;
            }
        } else if (head_.before[i] != COMMON_SAMPLER_TYPE_NONE && !counts_.empty()) {
            changed_.clear();
            for (const auto & [token, count] : counts_) {
                changed_.push_back({token, changed_row_[static_cast<size_t>(token)], 0.0f});
            }
            llama_token_data_array array{changed_.data(), changed_.size(), -1, false};
            llama_sampler_apply(llama_sampler_chain_get(chain, static_cast<int32_t>(i)), &array);
            for (const auto & candidate : changed_) {
                changed_row_[static_cast<size_t>(candidate.id)] = candidate.logit;
            }
        }
    }
    return changed_row_.data();
}

// False where the row has to be seen whole.
bool candidate_selector::select_by_look(const float * row, std::vector<llama_token_data> & out,
                                        selection & done) const {
    if (!std::isfinite(largest(row, n_vocab_))) {
        return false;
    }
    done = {true, static_cast<int32_t>(head_.before.size())};
    switch (head_.look) {
        case first_look::top_k: select_top_k(row, n_vocab_, top_k_, out); return true;
        case first_look::min_p:
            select_min_p(row, n_vocab_, min_p_, out);
            done.sorted = false;
            return out.size() >= min_keep_;
        case first_look::top_n_sigma:
            done.sorted = false;
            ++done.n_applied;
            return select_sigmas(row, n_vocab_, top_n_sigma_, out);
        case first_look::top_p:
            select_top_p(row, n_vocab_, top_p_, min_keep_, out);
            ++done.n_applied;
            return true;
        case first_look::mirostat_v2: select_surprise(row, n_vocab_, mirostat_mu_, out); return true;
        case first_look::sorted: sort_row(row, n_vocab_, out); return true;
        case first_look::draw:
        case first_look::other: break;
    }
    return false;
}

bool candidate_selector::draw(llama_sampler * chain, const float * row, double u, std::vector<llama_token_data> & out) {
    const llama_token token = draw_from(changed_row(chain, row, biases()), n_vocab_, u, block_sums_);
    out.assign(token != LLAMA_TOKEN_NULL ? 1 : 0, {token, 0.0f, 0.0f});
    return token != LLAMA_TOKEN_NULL;
}

void candidate_selector::chosen(float probability) {
    if (head_.look == first_look::mirostat_v2) {
        mirostat_mu_ -= mirostat_eta_ * (-std::log2(probability) - mirostat_tau_);
    }
}

selection candidate_selector::select(llama_sampler * chain, const float * row, bool whole_row,
                                     std::vector<llama_token_data> & out) {
    const std::vector<llama_logit_bias> & now = biases();
    const bool top_k_first = head_.look == first_look::top_k && !divides_;
    if (!whole_row && !greedy_ && !top_k_first && head_.look != first_look::draw && head_.look != first_look::other) {
        selection done;
        if (select_by_look(changed_row(chain, row, now), out, done)) {
            return done;
        }
        whole_row = true;
    }
    const auto wanted = static_cast<size_t>(greedy_ ? 1 : top_k_first ? top_k_ : 0);
    const size_t n_changed = now.size() + counts_.size();
    if (whole_row || wanted == 0 || wanted + n_changed > static_cast<size_t>(n_vocab_) / 4) {
        select_all(row, now, out);
        return {};
    }
    if (greedy_ && n_changed == 0) {
        const llama_token best = select_greedy(row, n_vocab_);
        out.clear();
        if (best != LLAMA_TOKEN_NULL) {
            out.push_back({best, row[best], 0.0f});
        }
        return {true, 0};
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
    return {true, 0};
}

}  // namespace pyllama
