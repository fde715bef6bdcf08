// Requests on their way to an engine: being prepared, or prepared and not submitted yet. When a crowd comes to an idle
// engine, its first request would take a step for itself, and all others would wait for that. Any thread.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

namespace pyllama {

class arrivals {
  public:
    using clock = std::chrono::steady_clock;

    void set_out(clock::time_point now = clock::now());
    // It was submitted, or never will be.
    void arrive(clock::time_point now = clock::now());

    // Until when an idle engine waits for them that could have begun a step of `step_ms` at `since`; none: no longer.
    // Never for more than half of the step, and not for one that takes its time: nobody set out or arrived for a while.
    std::optional<clock::time_point> worth_waiting(clock::time_point since, double step_ms,
                                                   clock::time_point now = clock::now()) const;

  private:
    mutable std::mutex mutex_;
    int n_ = 0;
    clock::time_point last_;
};

// One request, for as long as it is on its way.
class arrival {
  public:
    explicit arrival(std::shared_ptr<arrivals> among) : among_(std::move(among)) { among_->set_out(); }
    ~arrival() { among_->arrive(); }
    arrival(const arrival &) = delete;
    arrival & operator=(const arrival &) = delete;

  private:
    std::shared_ptr<arrivals> among_;
};

}  // namespace pyllama
