#include "arrivals.h"

#include <algorithm>

namespace pyllama {

namespace {

constexpr double step_share = 0.5;
constexpr std::chrono::milliseconds longest{30};
// One of a crowd follows another within a millisecond or two; a long prompt's tokens take longer.
constexpr std::chrono::milliseconds quiet{5};

}  // namespace

void arrivals::set_out(clock::time_point now) {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++n_;
    last_ = now;
}

void arrivals::arrive(clock::time_point now) {
    const std::lock_guard<std::mutex> lock(mutex_);
    --n_;
    last_ = now;
}

std::optional<arrivals::clock::time_point> arrivals::worth_waiting(clock::time_point since, double step_ms,
                                                                   clock::time_point now) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::chrono::duration<double, std::milli> share(step_share * step_ms);
    const auto most = std::min(std::chrono::duration_cast<clock::duration>(share), clock::duration(longest));
    const clock::time_point end = std::min(since + most, last_ + quiet);
    return n_ > 0 && now < end ? std::optional(end) : std::nullopt;
}

}  // namespace pyllama
