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

const llama_tokens * sequence_matcher::advance(llama_token token) {
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
    return nullptr;
}

reasoning_tracker::reasoning_tracker(std::vector<llama_tokens> start, std::vector<llama_tokens> end, bool open)
    : start_(std::move(start)), end_(std::move(end)), inside_(open && !end_.empty()) {}

const llama_tokens * reasoning_tracker::advance(llama_token token) {
    if (!inside_) {
        if (start_.advance(token) != nullptr && !end_.empty()) {
            inside_ = true;
            end_.reset();
        }
        return nullptr;
    }
    ++n_tokens_;
    const llama_tokens * ended = end_.advance(token);
    if (ended != nullptr) {
        n_tokens_ = std::max(0, n_tokens_ - static_cast<int32_t>(ended->size()));
        inside_ = false;
        start_.reset();
    }
    return ended;
}

}  // namespace pyllama
