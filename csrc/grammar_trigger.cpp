#include "grammar_trigger.h"

#include <algorithm>
#include <utility>

namespace pyllama {

grammar_trigger::grammar_trigger(const common_params_sampling & sampling) : waits_(sampling.grammar_lazy) {
    for (const auto & trigger : sampling.grammar_triggers) {
        if (trigger.type == COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN) {
            tokens_.push_back(trigger.token);
        } else if (trigger.type == COMMON_GRAMMAR_TRIGGER_TYPE_WORD && !trigger.value.empty()) {
            words_.push_back(trigger.value);
            longest_ = std::max(longest_, trigger.value.size());
        } else {
            waits_ = false;
        }
    }
}

bool grammar_trigger::completes_word(std::string_view text) {
    const size_t n_before = tail_.size();
    tail_ += text;
    return std::any_of(words_.begin(), words_.end(), [&](const std::string & word) {
        return tail_.find(word, n_before - std::min(n_before, word.size() - 1)) != std::string::npos;
    });
}

const llama_tokens & grammar_trigger::advance(llama_token token, std::string_view text) {
    told_.clear();
    if (!waits_ || std::find(tokens_.begin(), tokens_.end(), token) != tokens_.end()) {
        waits_ = false;
        told_.push_back(token);
        return told_;
    }
    tail_tokens_.push_back(token);
    tail_bytes_.push_back(text.size());
    if (completes_word(text)) {
        waits_ = false;
        std::swap(told_, tail_tokens_);
        return told_;
    }
    size_t n = 0;
    size_t n_bytes = 0;
    while (n < tail_bytes_.size() && tail_.size() - n_bytes - tail_bytes_[n] + 1 >= longest_) {
        n_bytes += tail_bytes_[n++];
    }
    tail_.erase(0, n_bytes);
    tail_tokens_.erase(tail_tokens_.begin(), tail_tokens_.begin() + static_cast<std::ptrdiff_t>(n));
    tail_bytes_.erase(tail_bytes_.begin(), tail_bytes_.begin() + static_cast<std::ptrdiff_t>(n));
    return told_;
}

}  // namespace pyllama
