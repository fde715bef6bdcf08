// How many bytes of host memory one engine may hold for later: the rings of its streams, sequences that lost their
// slot, checkpoints, and the state of parked requests. Each part says what it takes; who gives way to whom:
//
//   streams      never to the others. They have a limit of their own within the whole; when that is used up, streams
//                that have ended and are only kept for replay give their bytes back, the one that ended first goes
//                first.
//   parked       to streams, when cached sequences and checkpoints are gone
//   checkpoints  to both
//   prefixes     to all
//
// The last three belong to the engine thread, which makes room before it takes some, and gives back at the top of a
// step what streams have taken since. So the thread that writes the rings waits for nobody, and the whole may exceed
// its limit for as long as a step takes.
//
// Any thread. Lock order: the budget's mutex, then a stream's. So nobody calls anything but charge() and release() with
// a stream's mutex held.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

namespace pyllama {

enum class memory_part { streams, parked, checkpoints, prefixes };
constexpr size_t n_memory_parts = 4;

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
    // In bytes; 0 = none. stream_limit: of the streams alone.
    explicit byte_budget(size_t stream_limit, size_t limit = 0);

    // What is used goes up by n, whatever the limits say.
    void charge(memory_part part, size_t n) noexcept { of(part).fetch_add(n, std::memory_order_relaxed); }
    void release(memory_part part, size_t n) noexcept { of(part).fetch_sub(n, std::memory_order_relaxed); }

    // Whether n more bytes fit.
    bool fits(size_t n) const { return limit_ == 0 || used() + n <= limit_; }
    bool over() const { return !fits(0); }

    // Whether n more bytes of streams fit, once those that may be evicted were, as far as it takes.
    bool make_stream_room(size_t n) noexcept;

    // Lets a stream be evicted from now on, and gives the ticket that forget() wants before it is destroyed.
    uint64_t offer(evictable & ended);
    void forget(uint64_t ticket) noexcept;

    size_t limit() const { return limit_; }
    size_t used() const;
    size_t used(memory_part part) const { return used_[static_cast<size_t>(part)].load(std::memory_order_relaxed); }
    uint64_t n_evicted() const { return n_evicted_.load(std::memory_order_relaxed); }

  private:
    std::atomic<size_t> & of(memory_part part) { return used_[static_cast<size_t>(part)]; }
    bool stream_fits(size_t n) const;

    const size_t stream_limit_;
    const size_t limit_;
    std::array<std::atomic<size_t>, n_memory_parts> used_{};
    std::atomic<uint64_t> n_evicted_{0};
    std::mutex mutex_;
    std::map<uint64_t, evictable *> offered_;  // by ticket: the oldest first
    uint64_t next_ticket_ = 1;
};

// n bytes of a budget, for as long as it lives.
class budget_share {
  public:
    budget_share() = default;
    budget_share(std::shared_ptr<byte_budget> budget, memory_part part, size_t n);
    ~budget_share();
    budget_share(budget_share && other) noexcept;
    budget_share & operator=(budget_share && other) noexcept;

    size_t n_bytes() const { return n_; }
    void move_to(memory_part part) noexcept;

  private:
    std::shared_ptr<byte_budget> budget_;
    memory_part part_ = memory_part::prefixes;
    size_t n_ = 0;
};

}  // namespace pyllama
