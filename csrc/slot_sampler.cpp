#include "slot_sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "logit_row.h"
#include "media_token.h"
#include "sampler_chain.h"

namespace pyllama {

namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

// What the end tag gets at the last token of a budget that lands softly. A tag that a model would not think of is some
// 15 below what it says; where a thought could end, it is far less.
constexpr float end_bias_most = 12.0f;

// Whether the chain ends with the sampler that draws from the distribution.
bool draws_last(llama_sampler * chain) {
    const std::string name = llama_sampler_name(llama_sampler_chain_get(chain, llama_sampler_chain_n(chain) - 1));
    return name.size() >= 4 && name.compare(name.size() - 4, 4, "dist") == 0;
}

uint32_t seed_of_last(llama_sampler * chain) {
    return llama_sampler_get_seed(llama_sampler_chain_get(chain, llama_sampler_chain_n(chain) - 1));
}

double next_of(std::mt19937 & numbers) {
    return std::uniform_real_distribution<double>(0.0, 1.0)(numbers);
}

}  // namespace

slot_sampler::slot_sampler(const llama_vocab * vocab, const generation_params & params, const llama_tokens & prompt)
    : vocab_(vocab),
      n_vocab_(llama_vocab_n_tokens(vocab)),
      chain_(make_sampler_chain(vocab, params.sampling)),
      grammar_(make_grammar_sampler(vocab, params.sampling)),
      grammar_lazy_(params.sampling.grammar_lazy),
      trigger_(params.sampling),
      selector_(vocab, params.sampling),
      reasoning_(params.reasoning.start, params.reasoning.end, params.reasoning.open, params.reasoning.budget,
                 params.reasoning.soft),
      end_token_(params.reasoning.forced.empty() ? LLAMA_TOKEN_NULL : params.reasoning.end.front().front()),
      reads_text_(params.reasoning.budget >= 0 || params.sampling.reasoning_control || (grammar_ && grammar_lazy_)),
      numbers_(seed_of_last(chain_.get())),
      shows_rest_(params.post_sampling_probs) {
    if (reads_text_) {
        reasoning_.read_text(params.reasoning.start_text, params.reasoning.end_text);
    }
    for (size_t i = prompt.size() - std::min(n_remembered(params.sampling), prompt.size()); i < prompt.size(); ++i) {
        tell_chain(prompt[i]);
    }
}

void slot_sampler::tell_chain(llama_token token) {
    if (is_media(token)) {
        return;
    }
    llama_sampler_accept(chain_.get(), token);
    selector_.accept(token);
}

void slot_sampler::tell_grammar(llama_token token) {
    for (const llama_token told : trigger_.advance(token, grammar_lazy_ ? text_of(token) : std::string())) {
        llama_sampler_accept(grammar_.get(), told);
    }
}

std::string slot_sampler::text_of(llama_token token) const {
    return common_token_to_piece(vocab_, token, true);
}

// Where nobody asked for what the reasoning does, a tag that is no token of its own may be missed, and costs nothing.
std::string slot_sampler::tag_text(llama_token token) const {
    return reads_text_ && reasoning_.has_tags() ? text_of(token) : std::string();
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

// Fills candidates_: the whole row, or as many of its largest logits as can matter.
void slot_sampler::candidates(const float * row, bool whole_row) {
    selector_.prefer(end_token_, end_token_ != LLAMA_TOKEN_NULL ? end_bias_most * reasoning_.lean() : 0.0f);
    if (selector_.draws() && !whole_row && !shows_rest_) {
        std::mt19937 numbers = numbers_;
        if (selector_.draw(chain_.get(), row, next_of(numbers), candidates_)) {
            selection_ = selector_.all_but_draw();
            return;
        }
    }
    selection_ = selector_.select(chain_.get(), row, whole_row, candidates_);
}

llama_token slot_sampler::choose() {
    if (selector_.greedy() && !candidates_.empty()) {
        const auto best =
            selection_.sorted ? candidates_.begin() : std::min_element(candidates_.begin(), candidates_.end(), larger);
        return best->logit > minus_infinity ? best->id : LLAMA_TOKEN_NULL;
    }
    // Impossible candidates must not reach samplers that normalise: all of them would be NaN.
    candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(),
                                     [](const llama_token_data & c) { return !(c.logit > minus_infinity); }),
                      candidates_.end());
    if (candidates_.empty()) {
        return LLAMA_TOKEN_NULL;
    }
    llama_token_data_array array{candidates_.data(), candidates_.size(), -1, selection_.sorted};
    for (int32_t i = selection_.n_applied; i < llama_sampler_chain_n(chain_.get()); ++i) {
        llama_sampler_apply(llama_sampler_chain_get(chain_.get(), i), &array);
    }
    if (array.size > 0) {
        next_of(numbers_);
    }
    // XTC leaves the end of what it got.
    candidates_.erase(candidates_.begin(), candidates_.begin() + (array.data - candidates_.data()));
    n_left_ = array.size;
    if (array.selected < 0 || static_cast<size_t>(array.selected) >= array.size) {
        return LLAMA_TOKEN_NULL;
    }
    const llama_token_data & chosen = candidates_[static_cast<size_t>(array.selected)];
    selector_.chosen(chosen.p);
    return chosen.id;
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
        tell_grammar(token);
    } else if (ended != nullptr) {
        // The end of the reasoning may itself begin what triggers a lazy grammar.
        for (const llama_token end_token : *ended) {
            tell_grammar(end_token);
        }
    }
}

void slot_sampler::accept(llama_token token) {
    const bool applied = grammar_applies();
    const llama_tokens * ended = reasoning_.sampled(token, tag_text(token));
    if (grammar_) {
        accept_in_grammar(token, applied, ended);
    }
    tell_chain(token);
}

bool slot_sampler::force(const llama_tokens & tokens) {
    // Asked for each token while a grammar refuses an end that is due: the first token alone is cheap.
    if (tokens.empty() || (grammar_applies() && !grammar_allows(tokens.front()))) {
        return false;
    }
    // llama.cpp's grammar throws half way, and knows no way back.
    llama_sampler_ptr kept(grammar_ ? llama_sampler_clone(grammar_.get()) : nullptr);
    const grammar_trigger kept_trigger = trigger_;
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
        trigger_ = kept_trigger;
        reasoning_ = kept_reasoning;
        return false;
    }
    for (const llama_token token : tokens) {
        tell_chain(token);
    }
    return true;
}

void slot_sampler::take_chain(slot_sampler & fresh, const std::vector<llama_token> & said, bool reseed) {
    for (const llama_token token : said) {
        fresh.tell_chain(token);
    }
    if (!reseed && draws_last(chain_.get()) && draws_last(fresh.chain_.get())) {
        const int last = llama_sampler_chain_n(fresh.chain_.get()) - 1;
        llama_sampler_free(llama_sampler_chain_remove(fresh.chain_.get(), last));
        llama_sampler * drawing = llama_sampler_chain_remove(chain_.get(), llama_sampler_chain_n(chain_.get()) - 1);
        llama_sampler_chain_add(fresh.chain_.get(), drawing);
    } else {
        numbers_ = fresh.numbers_;
    }
    chain_ = std::move(fresh.chain_);
    selector_ = std::move(fresh.selector_);
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
    if (selector_.greedy()) {
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
