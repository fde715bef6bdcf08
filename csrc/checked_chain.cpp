#include "checked_chain.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "errors.h"
#include "logit_row.h"
#include "tokenize.h"

namespace pyllama {

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
// No token has it: adaptive-p forgets the token that it waits for.
constexpr llama_token no_token = -2;

// Written so that compilers vectorise it.
bool all_below_infinity(const float * row, int32_t n) {
    int bad = 0;
    for (int32_t i = 0; i < n; ++i) {
        bad |= row[i] < infinity ? 0 : 1;
    }
    return bad == 0;
}

// The samplers' time is added up over all ways out of a scope.
class stopwatch {
  public:
    explicit stopwatch(int64_t & total) : total_(total), start_(llama_time_us()) {}
    ~stopwatch() { total_ += llama_time_us() - start_; }
    stopwatch(const stopwatch &) = delete;

  private:
    int64_t & total_;
    int64_t start_;
};

size_t piece_bytes(const llama_vocab * vocab, llama_token token) {
    const int32_t n = llama_token_to_piece(vocab, token, nullptr, 0, 0, true);
    return static_cast<size_t>(n < 0 ? -static_cast<int64_t>(n) : n);
}

}  // namespace

checked_chain::checked_chain(const llama_vocab * vocab)
    : vocab_(vocab), buffer_(std::make_shared<candidate_buffer>()) {}

std::unique_ptr<checked_chain> checked_chain::clone() const {
    auto copy = std::make_unique<checked_chain>(vocab_);
    for (const link & item : links_) {
        llama_sampler_ptr sampler(item.sampler ? llama_sampler_clone(item.sampler.get()) : nullptr);
        if (item.kind == sampler_kind::adaptive) {
            // The copy knows a token that was selected and not accepted, but not the probability it would look up.
            llama_sampler_accept(sampler.get(), no_token);
        }
        copy->links_.push_back({item.name, item.kind, item.k, std::move(sampler)});
    }
    copy->n_searched_ = n_searched_;
    return copy;
}

void checked_chain::insert(size_t at, const std::string & name, sampler_kind kind, int32_t k, llama_sampler * sampler) {
    llama_sampler_ptr owned(sampler);
    links_.insert(links_.begin() + static_cast<std::ptrdiff_t>(at), link{name, kind, k, std::move(owned)});
}

void checked_chain::erase(size_t at) {
    links_.erase(links_.begin() + static_cast<std::ptrdiff_t>(at));
}

size_t checked_chain::load(const float * row, int32_t n_vocab) {
    const stopwatch watch(time_us_);
    if (!all_below_infinity(row, n_vocab)) {
        int32_t bad = 0;
        while (row[bad] < infinity) {
            ++bad;
        }
        throw error(error_kind::engine, "the logits hold NaN or +inf, first at token " + std::to_string(bad));
    }
    if (buffer_.use_count() > 1) {
        buffer_ = std::make_shared<candidate_buffer>();
    }
    candidate_buffer & buffer = *buffer_;
    size_t next = 0;
    bool sorted = false;
    int64_t selected = -1;
    if (!links_.empty() && links_[0].kind == sampler_kind::top_k && links_[0].k <= n_vocab / 4) {
        select_top_k(row, n_vocab, links_[0].k, buffer);
        sorted = true;
        next = 1;
    } else if (!links_.empty() && links_[0].kind == sampler_kind::greedy) {
        const llama_token best = select_greedy(row, n_vocab);
        buffer.assign(1, {best, row[best], 0.0f});
        selected = 0;
        next = 1;
    } else {
        buffer.resize(static_cast<size_t>(n_vocab));
        for (int32_t id = 0; id < n_vocab; ++id) {
            buffer[static_cast<size_t>(id)] = {id, row[id], 0.0f};
        }
    }
    candidates_ = {buffer.data(), buffer.size(), selected, sorted};
    check({}, false);
    return next;
}

// Throws when no candidate is possible any more, or (`numbers`) when one has a logit without order.
void checked_chain::check(const std::string & after, bool numbers) {
    bool any = false;
    for (size_t i = 0; i < candidates_.size; ++i) {
        const float logit = candidates_.data[i].logit;
        if (!(logit < infinity)) {
            throw error(error_kind::engine, "the sampler '" + after + "' made the logit of token " +
                                                std::to_string(candidates_.data[i].id) + " NaN or +inf");
        }
        any = any || logit > -infinity;
        if (any && !numbers) {
            return;
        }
    }
    if (!any) {
        throw error(error_kind::engine, after.empty() ? "no token that is allowed is left: all logits are -inf"
                                                      : "no token that is allowed is left after '" + after + "'");
    }
}

size_t checked_chain::apply(size_t first) {
    const stopwatch watch(time_us_);
    for (size_t i = first; i < links_.size(); ++i) {
        link & item = links_[i];
        if (item.kind == sampler_kind::custom) {
            return i;
        }
        if (item.kind == sampler_kind::pairs && candidates_.size > chain_limits::n_pairs) {
            throw error(error_kind::engine, "'" + item.name + "' compares all pairs of candidates, of which it got " +
                                                std::to_string(candidates_.size) + ", more than " +
                                                std::to_string(chain_limits::n_pairs) + ": put top_k in front");
        }
        broken_ = true;
        llama_sampler_apply(item.sampler.get(), &candidates_);
        broken_ = false;
        check(item.name, item.kind == sampler_kind::changes || item.kind == sampler_kind::adaptive);
    }
    return links_.size();
}

void checked_chain::changed() {
    candidates_.sorted = false;
    candidates_.selected = -1;
    check("custom", true);
}

void checked_chain::select(int64_t token) {
    for (size_t i = 0; i < candidates_.size; ++i) {
        if (candidates_.data[i].id == token && candidates_.data[i].logit > -infinity) {
            candidates_.selected = static_cast<int64_t>(i);
            return;
        }
    }
    throw bad_request("the custom sampler selected token " + std::to_string(token) +
                          ", which is not among the candidates that are left",
                      "token");
}

bool checked_chain::grammars_allow(llama_token token) {
    for (link & item : links_) {
        if (!item.is_grammar()) {
            continue;
        }
        llama_token_data one{token, 0.0f, 0.0f};
        llama_token_data_array array{&one, 1, -1, false};
        llama_sampler_apply(item.sampler.get(), &array);
        if (one.logit == -infinity) {
            return false;
        }
    }
    return true;
}

// Whether a lazy grammar may still search: one that rules refuses some token of the vocabulary.
bool checked_chain::grammars_wait() {
    const int32_t n_vocab = llama_vocab_n_tokens(vocab_);
    for (link & item : links_) {
        if (item.kind != sampler_kind::lazy_patterns) {
            continue;
        }
        candidate_buffer all(static_cast<size_t>(n_vocab));
        for (int32_t id = 0; id < n_vocab; ++id) {
            all[static_cast<size_t>(id)] = {id, 0.0f, 0.0f};
        }
        llama_token_data_array array{all.data(), all.size(), -1, false};
        llama_sampler_apply(item.sampler.get(), &array);
        if (std::none_of(all.begin(), all.end(), [](const auto & c) { return c.logit == -infinity; })) {
            return true;
        }
    }
    return false;
}

void checked_chain::tell(llama_token token) {
    const bool searches = std::any_of(links_.begin(), links_.end(),
                                      [](const auto & item) { return item.kind == sampler_kind::lazy_patterns; });
    if (searches && vocab_ != nullptr) {
        const size_t before = n_searched_;
        n_searched_ += piece_bytes(vocab_, token);
        // Asked rarely, because it looks at the whole vocabulary.
        constexpr size_t interval = tokenize_limits::n_on_caller;
        if (n_searched_ / interval > before / interval && !grammars_wait()) {
            n_searched_ = 0;
        }
        if (n_searched_ > tokenize_limits::n_unbroken) {
            throw error(error_kind::engine, "a lazy grammar has found no trigger in " + std::to_string(n_searched_) +
                                                " bytes of text, and searches no more: reset() the chain");
        }
    }
    broken_ = true;
    with_stack_for(n_searched_, [&] {
        for (link & item : links_) {
            llama_sampler_accept(item.sampler.get(), token);
        }
    });
    broken_ = false;
    ++n_accepted_;
}

llama_token checked_chain::accept_selected() {
    const stopwatch watch(time_us_);
    if (candidates_.selected < 0 || static_cast<size_t>(candidates_.selected) >= candidates_.size) {
        throw bad_request("no sampler of the chain selects a token: end it with dist, greedy or another that does",
                          "samplers");
    }
    const llama_token token = candidates_.data[candidates_.selected].id;
    if (!grammars_allow(token)) {
        throw error(error_kind::engine,
                    "the grammar does not allow token " + std::to_string(token) + ", which was selected");
    }
    tell(token);
    return token;
}

void checked_chain::accept(llama_token token) {
    const stopwatch watch(time_us_);
    if (!grammars_allow(token)) {
        throw bad_request("the grammar does not allow token " + std::to_string(token), "token");
    }
    tell(token);
}

void checked_chain::reset() {
    for (link & item : links_) {
        llama_sampler_reset(item.sampler.get());
    }
    n_searched_ = 0;
    broken_ = false;
}

}  // namespace pyllama
