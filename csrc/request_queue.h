// The requests that wait for a slot, in the order in which they get one, and how long those that have one keep it.
//
// A request has a rank: how many requests had got a slot when it came, less what its priority is worth. The lowest rank
// is first, and of one rank who came first. So among equals it is first come, first served; a higher priority
// goes ahead of what came lately; and nobody starves: whatever comes, a request is passed by at most
// `priority_worth` requests for each step that their priority is above its own, besides those that were there before.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>

#include "generation.h"

namespace pyllama {

// A request in the queue, with all its choices.
struct queued_request {
    std::unique_ptr<generation> leader;
    int64_t rank = 0;
    size_t n_overtaken = 0;  // requests that came later and have got a slot before this one
};

// Entries stay where they are while others come and go. Engine thread.
class request_queue {
  public:
    using iterator = std::list<queued_request>::iterator;
    using const_iterator = std::list<queued_request>::const_iterator;

    static constexpr int64_t priority_worth = 64;

    void add(std::unique_ptr<generation> next);
    // What had a slot before goes ahead of all that had none.
    void put_back(std::unique_ptr<generation> parked);

    // Takes the request that gets a slot; `at` becomes the one behind it.
    std::unique_ptr<generation> take(iterator & at);
    // One that ended in the queue.
    iterator erase(iterator at);
    void clear();

    bool empty() const { return waiting_.empty(); }
    iterator begin() { return waiting_.begin(); }
    iterator end() { return waiting_.end(); }
    const_iterator begin() const { return waiting_.begin(); }
    const_iterator end() const { return waiting_.end(); }

    // Tells each request how many are before it, where that has changed.
    void tell_positions();

  private:
    std::list<queued_request> waiting_;
    int64_t n_taken_ = 0;
    bool changed_ = false;
};

// How long a request keeps its slot, as the mean over the last few dozen. Written by the engine thread, read by any.
class service_time {
  public:
    void observe(double seconds);
    double seconds() const { return mean_.load(std::memory_order_relaxed); }

    // Whole seconds, from 1 to an hour, until as many requests as wait have been served.
    int64_t until_served(size_t n_waiting, size_t n_slots) const;

  private:
    std::atomic<double> mean_{0};
};

}  // namespace pyllama
