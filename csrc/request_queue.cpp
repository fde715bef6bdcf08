#include "request_queue.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace pyllama {

namespace {

constexpr double newest_share = 0.05;
constexpr double longest_wait = 3600;

constexpr int64_t before_all = std::numeric_limits<int64_t>::min();

}  // namespace

void request_queue::add(std::unique_ptr<generation> next) {
    const int64_t rank = n_taken_ - next->params().priority * priority_worth;
    // From the end, where most of them go.
    const auto before = std::find_if(waiting_.rbegin(), waiting_.rend(),
                                     [rank](const queued_request & each) { return each.rank <= rank; });
    waiting_.insert(before.base(), {std::move(next), rank});
    changed_ = true;
}

void request_queue::put_back(std::unique_ptr<generation> parked) {
    waiting_.push_front({std::move(parked), before_all});
    changed_ = true;
}

std::unique_ptr<generation> request_queue::take(iterator & at) {
    std::unique_ptr<generation> next = std::move(at->leader);
    next->control()->group->queue_position.store(-1, std::memory_order_relaxed);
    n_taken_ += at->rank == before_all ? 0 : 1;
    at = erase(at);
    return next;
}

request_queue::iterator request_queue::erase(iterator at) {
    changed_ = true;
    return waiting_.erase(at);
}

void request_queue::clear() {
    waiting_.clear();
}

void request_queue::tell_positions() {
    if (!std::exchange(changed_, false)) {
        return;
    }
    // Of a request with several prompts, the first one's: it is told last.
    auto position = static_cast<int32_t>(waiting_.size());
    for (auto each = waiting_.rbegin(); each != waiting_.rend(); ++each) {
        each->leader->control()->group->queue_position.store(--position, std::memory_order_relaxed);
    }
}

void service_time::observe(double seconds) {
    const double mean = mean_.load(std::memory_order_relaxed);
    mean_.store(mean > 0 ? mean + newest_share * (seconds - mean) : seconds, std::memory_order_relaxed);
}

int64_t service_time::until_served(size_t n_waiting, size_t n_slots) const {
    const double wait = seconds() * static_cast<double>(n_waiting) / static_cast<double>(std::max<size_t>(n_slots, 1));
    return static_cast<int64_t>(std::clamp(std::ceil(wait), 1.0, longest_wait));
}

}  // namespace pyllama
