// How many bytes the streams of one engine may hold together. Rings charge their blocks here; when it is used up,
// streams that have ended and are only kept for replay give their bytes back, the one that ended first goes first.
// Any thread.
//
// Lock order: the budget's mutex, then a stream's. So nobody calls anything but charge() and release() with a stream's
// mutex held.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>

namespace pyllama {

// Something that can give up all its bytes.
class evictable {
  public:
    // Called with the budget's mutex held.
    virtual void evict() noexcept = 0;

  protected:
    ~evictable() = default;
};

class byte_budget {
  public:
    // limit: in bytes; 0 = none.
    explicit byte_budget(size_t limit) : limit_(limit) {}

    // What is used goes up by n, whatever the limit says.
    void charge(size_t n) noexcept { used_.fetch_add(n, std::memory_order_relaxed); }
    void release(size_t n) noexcept { used_.fetch_sub(n, std::memory_order_relaxed); }

    // Whether n more bytes fit, once those that may be evicted were, as far as it takes.
    bool make_room(size_t n) noexcept;

    // Lets a stream be evicted from now on, and gives the ticket that forget() wants before it is destroyed.
    uint64_t offer(evictable & ended);
    void forget(uint64_t ticket) noexcept;

    size_t used() const { return used_.load(std::memory_order_relaxed); }
    uint64_t n_evicted() const { return n_evicted_.load(std::memory_order_relaxed); }

  private:
    bool fits(size_t n) const { return limit_ == 0 || used() + n <= limit_; }

    const size_t limit_;
    std::atomic<size_t> used_{0};
    std::atomic<uint64_t> n_evicted_{0};
    std::mutex mutex_;
    std::map<uint64_t, evictable *> offered_;  // by ticket: the oldest first
    uint64_t next_ticket_ = 1;
};

}  // namespace pyllama
