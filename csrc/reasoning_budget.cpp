#include "reasoning_budget.h"

#include <algorithm>
#include <utility>

namespace pyllama {

reasoning_budget::reasoning_budget(std::vector<llama_tokens> start, std::vector<llama_tokens> end, bool open,
                                   int32_t limit)
    : tracker_(std::move(start), std::move(end), open), limit_(limit) {}

void reasoning_budget::left() {
    asked_ = false;
    n_waited_ = 0;
    left_one_ = true;
}

const llama_tokens * reasoning_budget::sampled(llama_token token, std::string_view text) {
    if (wants_end()) {
        ++n_waited_;
    }
    const int32_t n_before = tracker_.n_tokens();
    const llama_tokens * ended = tracker_.advance(token, text);
    n_used_ = std::max(0, n_used_ + tracker_.n_tokens() - n_before);
    if (ended != nullptr) {
        left();
    }
    return ended;
}

const llama_tokens * reasoning_budget::forced(llama_token token, std::string_view text) {
    const llama_tokens * ended = tracker_.advance(token, text);
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
