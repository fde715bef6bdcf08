#include "slot_sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "sampler_chain.h"

namespace pyllama {

namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

// Request and model biases, one per token: contradicting entries add up, as in llama.cpp's own sampler.
std::vector<llama_logit_bias> merged_biases(const llama_vocab * vocab, const common_params_sampling & sampling) {
    std::vector<llama_logit_bias> biases = sampling.logit_bias;
    int32_t n_suppressed = 0;
    const llama_token * suppressed = llama_vocab_get_suppress_tokens(vocab, &n_suppressed);
    for (int32_t i = 0; i < n_suppressed; ++i) {
        biases.push_back({suppressed[i], minus_infinity});
    }
    std::stable_sort(biases.begin(), biases.end(), [](auto a, auto b) { return a.token < b.token; });
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

// Whether the chain ends with the sampler that draws from the distribution.
bool draws_last(llama_sampler * chain) {
    const std::string name = llama_sampler_name(llama_sampler_chain_get(chain, llama_sampler_chain_n(chain) - 1));
    return name.size() >= 4 && name.compare(name.size() - 4, 4, "dist") == 0;
}

bool larger(const llama_token_data & a, const llama_token_data & b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

}  // namespace

slot_sampler::slot_sampler(const llama_vocab * vocab, const generation_params & params, const llama_tokens & prompt)
    : vocab_(vocab),
      n_vocab_(llama_vocab_n_tokens(vocab)),
      chain_(make_sampler_chain(vocab, params.sampling)),
      grammar_(make_grammar_sampler(vocab, params.sampling)),
      grammar_lazy_(params.sampling.grammar_lazy),
      greedy_(is_greedy(params.sampling)),
      first_top_k_(leading_top_k(params.sampling)),
      biases_(merged_biases(vocab, params.sampling)),
      reasoning_(params.reasoning.start, params.reasoning.end, params.reasoning.open, params.reasoning.budget),
      reads_text_(params.reasoning.budget >= 0 || params.sampling.reasoning_control || (grammar_ && grammar_lazy_)) {
    if (reads_text_) {
        reasoning_.read_text(params.reasoning.start_text, params.reasoning.end_text);
    }
    for (size_t i = prompt.size() - std::min(n_remembered(params.sampling), prompt.size()); i < prompt.size(); ++i) {
        llama_sampler_accept(chain_.get(), prompt[i]);
    }
    for (const auto & bias : biases_) {
        if (bias.token < 0 || bias.token >= n_vocab_) {
            throw bad_request("logit_bias: token " + std::to_string(bias.token) + " is not in the vocabulary of " +
                                  std::to_string(n_vocab_) + " tokens",
                              "logit_bias");
        }
    }
}

// Where nobody asked for what the reasoning does, a tag that is no token of its own may be missed, and costs nothing.
std::string slot_sampler::tag_text(llama_token token) const {
    return reads_text_ && reasoning_.has_tags() ? common_token_to_piece(vocab_, token, true) : std::string();
}

bool slot_sampler::grammar_applies() const {
    return grammar_ && !(grammar_lazy_ && reasoning_.inside());
}

// Also keeps the process alive: the grammar aborts when it has to accept an end that it does not allow.
bool slot_sampler::grammar_allows(llama_token token) {
    llama_token_data one{token, 1.0f, 0.0f};
    llama_token_data_array array{&one, 1, -1, false};
    llama_sampler_apply(grammar_.get(), &array);
    return one.logit != minus_infinity;
}

void slot_sampler::apply_biases_to_all(const float * row) {
    candidates_.resize(static_cast<size_t>(n_vocab_));
    for (int32_t id = 0; id < n_vocab_; ++id) {
        candidates_[static_cast<size_t>(id)] = {id, row[id], 0.0f};
    }
    for (const auto & bias : biases_) {
        candidates_[static_cast<size_t>(bias.token)].logit += bias.bias;
    }
    sorted_ = false;
}

// Fills candidates_: the whole row, or as many of its largest logits as can matter.
void slot_sampler::candidates(const float * row, bool whole_row) {
    const int32_t wanted = greedy_ ? 1 : first_top_k_;
    if (whole_row || wanted == 0 || static_cast<size_t>(wanted) + biases_.size() > static_cast<size_t>(n_vocab_) / 4) {
        apply_biases_to_all(row);
        return;
    }
    if (greedy_ && biases_.empty()) {
        const llama_token best = select_greedy(row, n_vocab_);
        candidates_.clear();
        if (best != LLAMA_TOKEN_NULL) {
            candidates_.push_back({best, row[best], 0.0f});
        }
        sorted_ = true;
        return;
    }
    // After the biases, the best `wanted` are among the biased tokens and the best `wanted` of the others.
    select_top_k(row, n_vocab_, wanted + static_cast<int32_t>(biases_.size()), candidates_);
    if (!biases_.empty()) {
        const auto biased = [&](const llama_token_data & candidate) {
            return std::binary_search(biases_.begin(), biases_.end(), llama_logit_bias{candidate.id, 0.0f},
                                      [](auto a, auto b) { return a.token < b.token; });
        };
        candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(), biased), candidates_.end());
        for (const auto & bias : biases_) {
            candidates_.push_back({bias.token, row[bias.token] + bias.bias, 0.0f});
        }
        std::sort(candidates_.begin(), candidates_.end(), larger);
        if (candidates_.size() > static_cast<size_t>(wanted)) {
            candidates_.resize(static_cast<size_t>(wanted));
        }
    }
    sorted_ = true;
}

llama_token slot_sampler::choose() {
    if (greedy_ && !candidates_.empty()) {
        const auto best =
            sorted_ ? candidates_.begin() : std::min_element(candidates_.begin(), candidates_.end(), larger);
        return best->logit > minus_infinity ? best->id : LLAMA_TOKEN_NULL;
    }
    // Impossible candidates must not reach samplers that normalise: all of them would be NaN.
    candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(),
                                     [](const llama_token_data & c) { return !(c.logit > minus_infinity); }),
                      candidates_.end());
    if (candidates_.empty()) {
        return LLAMA_TOKEN_NULL;
    }
    llama_token_data_array array{candidates_.data(), candidates_.size(), -1, sorted_};
    llama_sampler_apply(chain_.get(), &array);
    n_left_ = array.size;
    if (array.selected < 0 || static_cast<size_t>(array.selected) >= array.size) {
        return LLAMA_TOKEN_NULL;
    }
    return array.data[array.selected].id;
}

llama_token slot_sampler::sample(const float * row) {
    candidates(row, false);
    llama_token token = choose();
    if (grammar_applies() && (token == LLAMA_TOKEN_NULL || !grammar_allows(token))) {
        candidates(row, true);
        llama_token_data_array array{candidates_.data(), candidates_.size(), -1, false};
        llama_sampler_apply(grammar_.get(), &array);
        token = choose();
        if (token != LLAMA_TOKEN_NULL && !grammar_allows(token)) {
            token = LLAMA_TOKEN_NULL;
        }
    }
    if (token == LLAMA_TOKEN_NULL) {
        throw error(error_kind::engine, grammar_applies()
                                            ? "no token is allowed by both the grammar and the logit biases"
                                            : "no token can be sampled: every logit is excluded or not a number");
    }
    return token;
}

// `applied`: the grammar applied before the token. `ended`: the end of the reasoning that it completes, or null.
void slot_sampler::accept_in_grammar(llama_token token, bool applied, const llama_tokens * ended) {
    if (applied) {
        if (llama_vocab_is_eog(vocab_, token) && !grammar_allows(token)) {
            throw error(error_kind::engine, "the grammar does not allow the answer to end here");
        }
        llama_sampler_accept(grammar_.get(), token);
    } else if (ended != nullptr) {
        // The end of the reasoning may itself begin what triggers a lazy grammar.
        for (const llama_token end_token : *ended) {
            llama_sampler_accept(grammar_.get(), end_token);
        }
    }
}

void slot_sampler::accept(llama_token token) {
    const bool applied = grammar_applies();
    const llama_tokens * ended = reasoning_.sampled(token, tag_text(token));
    if (grammar_) {
        accept_in_grammar(token, applied, ended);
    }
    llama_sampler_accept(chain_.get(), token);
}

bool slot_sampler::force(const llama_tokens & tokens) {
    // Asked for each token while a grammar refuses an end that is due: the first token alone is cheap.
    if (tokens.empty() || (grammar_applies() && !grammar_allows(tokens.front()))) {
        return false;
    }
    // llama.cpp's grammar throws half way, and knows no way back.
    llama_sampler_ptr kept(grammar_ ? llama_sampler_clone(grammar_.get()) : nullptr);
    const reasoning_budget kept_reasoning = reasoning_;
    try {
        for (const llama_token token : tokens) {
            const bool applied = grammar_applies();
            const llama_tokens * ended = reasoning_.forced(token, tag_text(token));
            if (grammar_) {
                accept_in_grammar(token, applied, ended);
            }
        }
    } catch (const std::exception &) {
        grammar_ = std::move(kept);
        reasoning_ = kept_reasoning;
        return false;
    }
    for (const llama_token token : tokens) {
        llama_sampler_accept(chain_.get(), token);
    }
    return true;
}

void slot_sampler::take_chain(slot_sampler & fresh, const std::vector<llama_token> & said, bool reseed) {
    for (const llama_token token : said) {
        llama_sampler_accept(fresh.chain_.get(), token);
    }
    if (!reseed && draws_last(chain_.get()) && draws_last(fresh.chain_.get())) {
        const int last = llama_sampler_chain_n(fresh.chain_.get()) - 1;
        llama_sampler_free(llama_sampler_chain_remove(fresh.chain_.get(), last));
        llama_sampler * drawing = llama_sampler_chain_remove(chain_.get(), llama_sampler_chain_n(chain_.get()) - 1);
        llama_sampler_chain_add(fresh.chain_.get(), drawing);
    }
    chain_ = std::move(fresh.chain_);
    greedy_ = fresh.greedy_;
    first_top_k_ = fresh.first_top_k_;
    biases_ = std::move(fresh.biases_);
}

piece_logprobs slot_sampler::logprobs(const float * row, llama_token token, int32_t n_top) {
    const float normaliser = log_sum_exp(row, n_vocab_);
    piece_logprobs result{row[token] - normaliser, {}};
    std::vector<llama_token_data> best;
    select_top_k(row, n_vocab_, n_top, best);
    for (const auto & candidate : best) {
        result.top.push_back({candidate.id, candidate.logit - normaliser});
    }
    return result;
}

piece_logprobs slot_sampler::final_logprobs(llama_token token, int32_t n_top) {
    if (greedy_) {
        return {0.0f, {{token, 0.0f}}};
    }
    // The samplers work in place: the logits are those that the choice was made by.
    candidates_.resize(n_left_);
    std::sort(candidates_.begin(), candidates_.end(), larger);
    double sum = 0;
    for (const auto & candidate : candidates_) {
        sum += std::exp(static_cast<double>(candidate.logit) - candidates_.front().logit);
    }
    const auto normaliser = static_cast<float>(candidates_.front().logit + std::log(sum));
    piece_logprobs result{0.0f, {}};
    for (const auto & candidate : candidates_) {
        const float logprob = candidate.logit - normaliser;
        if (candidate.id == token) {
            result.logprob = logprob;
        }
        if (result.top.size() < static_cast<size_t>(n_top) && std::exp(logprob) > 0) {
            result.top.push_back({candidate.id, logprob});
        }
    }
    return result;
}

}  // namespace pyllama
