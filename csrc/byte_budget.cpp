#include "byte_budget.h"

namespace pyllama {

bool byte_budget::make_room(size_t n) noexcept {
    if (fits(n)) {
        return true;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    while (!fits(n) && !offered_.empty()) {
        const auto oldest = offered_.begin();
        oldest->second->evict();
        offered_.erase(oldest);
        n_evicted_.fetch_add(1, std::memory_order_relaxed);
    }
    return fits(n);
}

uint64_t byte_budget::offer(evictable & ended) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const uint64_t ticket = next_ticket_++;
    offered_.emplace(ticket, &ended);
    return ticket;
}

void byte_budget::forget(uint64_t ticket) noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    offered_.erase(ticket);
}

}  // namespace pyllama
