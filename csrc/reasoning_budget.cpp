#include "reasoning_budget.h"

#include <algorithm>
#include <utility>

#include "sentence_end.h"

namespace pyllama {

namespace {

// Enough to see how a sentence ends.
constexpr size_t n_heard = 16;

}  // namespace

reasoning_budget::reasoning_budget(std::vector<llama_tokens> start, std::vector<llama_tokens> end, bool open,
                                   int32_t limit, int32_t soft)
    : tracker_(std::move(start), std::move(end), open), limit_(limit), soft_(soft) {}

void reasoning_budget::left() {
    asked_ = false;
    n_waited_ = 0;
    left_one_ = true;
    heard_.clear();
}

float reasoning_budget::lean() const {
    const int32_t n_landing = std::min(soft_, limit_);
    const int32_t n_left = limit_ - n_used_;
    if (!tracker_.inside() || n_landing <= 0 || n_left <= 0 || n_left > n_landing) {
        return 0.0f;
    }
    return static_cast<float>(n_landing - n_left + 1) / static_cast<float>(n_landing);
}

bool reasoning_budget::lands() const {
    return soft_ > 0 && lean() > 0.5f && ends_sentence(heard_);
}

void reasoning_budget::hear(std::string_view text) {
    if (soft_ > 0 && tracker_.inside()) {
        heard_ += text;
        heard_.erase(0, heard_.size() - std::min(heard_.size(), n_heard));
    }
}

const llama_tokens * reasoning_budget::sampled(llama_token token, std::string_view text) {
    if (wants_end()) {
        ++n_waited_;
    }
    const int32_t n_before = tracker_.n_tokens();
    const llama_tokens * ended = tracker_.advance(token, text);
    n_used_ = std::max(0, n_used_ + tracker_.n_tokens() - n_before);
    hear(text);
    if (ended != nullptr) {
        left();
    }
    return ended;
}

const llama_tokens * reasoning_budget::forced(llama_token token, std::string_view text) {
    const llama_tokens * ended = tracker_.advance(token, text);
    hear(text);
    if (ended != nullptr) {
        left();
    }
    return ended;
}

budget_state reasoning_budget::state(bool text_complete) const {
    if (!tracker_.inside()) {
        return left_one_ ? budget_state::done : budget_state::idle;
    }
    if (!wants_end()) {
        return budget_state::counting;
    }
    return due(text_complete) ? budget_state::forcing : budget_state::waiting_utf8;
}

}  // namespace pyllama
