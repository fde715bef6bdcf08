// A histogram with fixed bounds, as Prometheus knows it. One thread observes, any thread reads; no locks.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace pyllama {

struct histogram_values {
    std::vector<double> bounds;    // upper, inclusive, ascending
    std::vector<uint64_t> counts;  // per bucket; one more than bounds: what is above the last
    double sum = 0;
};

template <size_t n>
class histogram {
  public:
    explicit constexpr histogram(const std::array<double, n> & bounds) : bounds_(bounds) {}

    // The one writer: plain stores would be lost updates only between writers.
    void observe(double value) {
        const auto bucket =
            static_cast<size_t>(std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin());
        add(counts_[bucket], uint64_t{1});
        add(sum_, value);
    }

    histogram_values values() const {
        histogram_values read{{bounds_.begin(), bounds_.end()}, {}, sum_.load(std::memory_order_relaxed)};
        for (const auto & count : counts_) {
            read.counts.push_back(count.load(std::memory_order_relaxed));
        }
        return read;
    }

  private:
    template <typename T>
    static void add(std::atomic<T> & to, T value) {
        to.store(to.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
    }

    const std::array<double, n> bounds_;
    std::array<std::atomic<uint64_t>, n + 1> counts_{};
    std::atomic<double> sum_{0};
};

template <size_t n>
histogram(const std::array<double, n> &) -> histogram<n>;

}  // namespace pyllama
