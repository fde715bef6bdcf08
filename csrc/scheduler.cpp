#include "scheduler.h"

#include <algorithm>

namespace pyllama {

int32_t chunk_size(int32_t n) {
    return n >= 64 ? n / 64 * 64 : n;
}

void scheduler::add_decode(const std::vector<slot *> & decoding, int32_t & budget, std::vector<chunk> & plan) {
    const size_t fit = std::min(decoding.size(), static_cast<size_t>(budget));
    if (fit == decoding.size()) {
        first_decode_ = 0;
    }
    budget -= static_cast<int32_t>(fit);
    for (size_t i = 0; i < fit; ++i) {
        slot * target = decoding[(first_decode_ + i) % decoding.size()];
        // Forced text comes with more; it takes what the others' single tokens leave.
        const int32_t more = std::min(target->n_pending() - 1, budget);
        budget -= more;
        const auto begin = static_cast<int32_t>(target->cached.size());
        plan.push_back({target, begin, begin + 1 + more, more == target->n_pending() - 1});
    }
    first_decode_ = fit < decoding.size() ? (first_decode_ + fit) % decoding.size() : 0;
}

void scheduler::add_prefill(const std::vector<slot *> & prefilling, int32_t & budget, std::vector<chunk> & plan) const {
    int32_t same = 0;  // where a batch of unequal lengths would be split into passes, all take the first one's
    for (slot * target : prefilling) {
        if (budget <= 0) {
            return;
        }
        const int32_t pending = target->n_pending();
        int32_t size = pending <= budget ? pending : chunk_size(budget);
        if (limits_.alternate) {
            same = same == 0 ? size : same;
            if (pending < same || budget < same) {
                continue;
            }
            size = same;
        }
        const auto begin = static_cast<int32_t>(target->cached.size());
        plan.push_back({target, begin, begin + size, size == pending});
        budget -= size;
    }
}

std::vector<chunk> scheduler::next(std::vector<slot> & slots) {
    std::vector<slot *> decoding;
    std::vector<slot *> prefilling;
    for (slot & candidate : slots) {
        switch (candidate.state()) {
            case slot_state::decode: decoding.push_back(&candidate); break;
            case slot_state::prefill: prefilling.push_back(&candidate); break;
            case slot_state::idle:
            case slot_state::reserved:
            case slot_state::paused: break;
        }
    }
    std::sort(prefilling.begin(), prefilling.end(),
              [](const slot * a, const slot * b) { return a->assigned < b->assigned; });

    std::vector<chunk> plan;
    int32_t budget = limits_.n_ubatch;
    const bool decode_now = !decoding.empty() && !(limits_.alternate && decoded_last_ && !prefilling.empty());
    if (decode_now) {
        add_decode(decoding, budget, plan);
    }
    if (!(limits_.alternate && decode_now)) {
        add_prefill(prefilling, budget, plan);
    }
    decoded_last_ = decode_now;
    return plan;
}

}  // namespace pyllama
