// What an append costs while a ring of 4 MiB fills up, and when it is full: nanoseconds, one line for each eighth, then
// for three more rings' worth. Not a test: bench/replay.py runs it.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "stream.h"

namespace {

constexpr size_t n_capacity = 4u << 20;
constexpr size_t n_event = 250;
constexpr int n_parts = 8 + 24;
constexpr int n_rounds = 31;

}  // namespace

int main() {
    using clock = std::chrono::steady_clock;
    const std::string event(n_event, 'x');
    const size_t n_appends = n_capacity / n_event / 8;
    std::vector<std::vector<double>> costs(n_parts);
    for (int round = 0; round < n_rounds; round++) {
        pyllama::stream_session session(n_capacity);
        for (std::vector<double> & part : costs) {
            const auto begun = clock::now();
            for (size_t i = 0; i < n_appends; i++) {
                session.append(event);
            }
            const std::chrono::duration<double, std::nano> took = clock::now() - begun;
            part.push_back(took.count() / static_cast<double>(n_appends));
        }
    }
    const auto median = [](std::vector<double> values) {
        std::nth_element(values.begin(), values.begin() + n_rounds / 2, values.end());
        return values[n_rounds / 2];
    };
    for (int i = 0; i < 8; i++) {
        std::printf("%d/8 %.1f\n", i + 1, median(costs[static_cast<size_t>(i)]));
    }
    std::vector<double> full;
    for (size_t i = 8; i < n_parts; i++) {
        full.push_back(median(costs[i]));
    }
    std::nth_element(full.begin(), full.begin() + 12, full.end());
    std::printf("full %.1f\n", full[12]);
    return 0;
}
