// Counters of one engine. Written by the engine thread, read by any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "control_result.h"
#include "histogram.h"

namespace pyllama {

struct metrics {
    std::atomic<uint64_t> n_requests{0};
    std::atomic<uint64_t> n_finished{0};
    std::atomic<uint64_t> n_cancelled{0};
    std::atomic<uint64_t> n_failed{0};
    std::atomic<uint64_t> n_rejected{0};       // the queue was full
    std::atomic<uint64_t> n_prompt_tokens{0};  // decoded
    std::atomic<uint64_t> n_cached_tokens{0};  // taken from the KV cache instead
    std::atomic<uint64_t> n_shared_tokens{0};  // of those, from other slots' sequences
    std::atomic<uint64_t> n_prefix_waits{0};   // requests that waited for a prefix that another one decoded
    std::atomic<uint64_t> n_generated_tokens{0};
    std::atomic<uint64_t> prompt_us{0};
    std::atomic<uint64_t> generation_us{0};
    std::atomic<uint64_t> n_steps{0};
    std::atomic<uint64_t> n_step_tokens{0};
    std::atomic<uint64_t> n_busy_slots{0};  // summed over steps
    std::atomic<uint64_t> n_parked{0};  // requests put back because others needed their cells, or a paused one's slot
    std::atomic<uint64_t> n_prefix_refused{0};  // cached prefixes that turned out not to be whole
    std::array<std::atomic<uint64_t>, n_control_actions> n_controls{};  // that succeeded, by action
    std::atomic<uint64_t> n_controls_refused{0};                        // by the request's state or a limit
    std::atomic<uint64_t> n_tokens_max{0};                              // longest sequence seen
    // While somebody decodes: the time from one decode step to the next that prompts are cut for, and the tokens of
    // prompts that fit into it. What a decode step is expected to take, and a token of a prompt on top of it.
    std::atomic<double> step_budget_ms{0};
    std::atomic<int32_t> step_prompt_tokens{0};
    std::atomic<double> step_decode_ms{0};
    std::atomic<double> step_token_ms{0};
    std::atomic<int64_t> n_running{0};
    std::atomic<int64_t> n_queued{0};

    // Seconds from the submission of a request to its slot, and to the first token of its first choice; seconds
    // between two tokens of a choice, pauses included; tokens of a prompt, cached ones included.
    histogram<11> queue_time{std::array{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 60.0, 300.0}};
    histogram<12> time_to_first_token{std::array{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0}};
    histogram<11> token_gap{std::array{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0}};
    histogram<9> prompt_length{std::array{16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0}};

    std::vector<std::pair<std::string, double>> snapshot() const;
    std::vector<std::pair<std::string, histogram_values>> histograms() const;
};

}  // namespace pyllama
