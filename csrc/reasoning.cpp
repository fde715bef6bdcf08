#include "reasoning.h"

#include <algorithm>
#include <utility>

namespace pyllama {

sequence_matcher::sequence_matcher(std::vector<llama_tokens> sequences) : sequences_(std::move(sequences)) {
    sequences_.erase(std::remove_if(sequences_.begin(), sequences_.end(), [](const auto & s) { return s.empty(); }),
                     sequences_.end());
    for (const auto & sequence : sequences_) {
        longest_ = std::max(longest_, sequence.size());
    }
}

void sequence_matcher::read_text(std::vector<std::string> texts) {
    texts_ = std::move(texts);
    for (const std::string & each : texts_) {
        longest_text_ = std::max(longest_text_, each.size());
    }
}

void sequence_matcher::reset() {
    recent_.clear();
    tail_.clear();
    tail_tokens_.clear();
}

const llama_tokens * sequence_matcher::advance(llama_token token, std::string_view text) {
    if (sequences_.empty()) {
        return nullptr;
    }
    if (recent_.size() == longest_) {
        recent_.erase(recent_.begin());
    }
    recent_.push_back(token);
    for (const auto & sequence : sequences_) {
        if (sequence.size() <= recent_.size() && std::equal(sequence.rbegin(), sequence.rend(), recent_.rbegin())) {
            return &sequence;
        }
    }
    return text.empty() || texts_.empty() ? nullptr : advance_text(token, text);
}

const llama_tokens * sequence_matcher::advance_text(llama_token token, std::string_view text) {
    const size_t n_before = tail_.size();
    tail_ += text;
    tail_tokens_.push_back({token, text.size()});
    size_t begin = 0;
    size_t end = std::string::npos;
    for (const std::string & tag : texts_) {
        const size_t at = tail_.find(tag, n_before - std::min(n_before, tag.size() - 1));
        if (at != std::string::npos && at + tag.size() < end) {
            begin = at;
            end = at + tag.size();
        }
    }
    if (end != std::string::npos) {
        matched_.clear();
        size_t at = 0;
        for (const held_token & held : tail_tokens_) {
            at += held.n_bytes;
            if (at > begin) {
                matched_.push_back(held.token);
            }
        }
        return &matched_;
    }
    while (tail_.size() - tail_tokens_.front().n_bytes >= longest_text_) {
        tail_.erase(0, tail_tokens_.front().n_bytes);
        tail_tokens_.erase(tail_tokens_.begin());
    }
    return nullptr;
}

reasoning_tracker::reasoning_tracker(std::vector<llama_tokens> start, std::vector<llama_tokens> end, bool open)
    : start_(std::move(start)), end_(std::move(end)), inside_(open && !end_.empty()) {}

void reasoning_tracker::read_text(std::vector<std::string> start, std::vector<std::string> end) {
    start_.read_text(std::move(start));
    end_.read_text(std::move(end));
}

const llama_tokens * reasoning_tracker::advance(llama_token token, std::string_view text) {
    if (!inside_) {
        if (start_.advance(token, text) != nullptr && !end_.empty()) {
            inside_ = true;
            end_.reset();
        }
        return nullptr;
    }
    ++n_tokens_;
    const llama_tokens * ended = end_.advance(token, text);
    if (ended != nullptr) {
        n_tokens_ = std::max(0, n_tokens_ - static_cast<int32_t>(ended->size()));
        inside_ = false;
        start_.reset();
    }
    return ended;
}

}  // namespace pyllama
