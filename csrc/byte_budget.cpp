#include "byte_budget.h"

#include <algorithm>
#include <utility>

namespace pyllama {

byte_budget::byte_budget(size_t stream_limit, size_t limit)
    : stream_limit_(stream_limit == 0 || limit == 0 ? std::max(stream_limit, limit) : std::min(stream_limit, limit)),
      limit_(limit) {}

size_t byte_budget::used() const {
    size_t n = 0;
    for (const auto & part : used_) {
        n += part.load(std::memory_order_relaxed);
    }
    return n;
}

bool byte_budget::stream_fits(size_t n) const {
    return stream_limit_ == 0 || used(memory_part::streams) + n <= stream_limit_;
}

bool byte_budget::make_stream_room(size_t n) noexcept {
    if (stream_fits(n)) {
        return true;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    while (!stream_fits(n) && !offered_.empty()) {
        const auto oldest = offered_.begin();
        oldest->second->evict();
        offered_.erase(oldest);
        n_evicted_.fetch_add(1, std::memory_order_relaxed);
    }
    return stream_fits(n);
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

budget_share::budget_share(std::shared_ptr<byte_budget> budget, memory_part part, size_t n)
    : budget_(std::move(budget)), part_(part), n_(n) {
    if (budget_) {
        budget_->charge(part_, n_);
    }
}

budget_share::~budget_share() {
    if (budget_) {
        budget_->release(part_, n_);
    }
}

budget_share::budget_share(budget_share && other) noexcept
    : budget_(std::move(other.budget_)), part_(other.part_), n_(std::exchange(other.n_, 0)) {}

budget_share & budget_share::operator=(budget_share && other) noexcept {
    std::swap(budget_, other.budget_);
    std::swap(part_, other.part_);
    std::swap(n_, other.n_);
    return *this;
}

void budget_share::move_to(memory_part part) noexcept {
    if (budget_ && part != part_) {
        budget_->charge(part, n_);
        budget_->release(part_, n_);
    }
    part_ = part;
}

}  // namespace pyllama
