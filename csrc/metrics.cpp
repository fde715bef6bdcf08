#include "metrics.h"

namespace pyllama {

std::vector<std::pair<std::string, double>> metrics::snapshot() const {
    const auto seconds = [](const std::atomic<uint64_t> & us) { return static_cast<double>(us.load()) / 1e6; };
    const auto count = [](const auto & value) { return static_cast<double>(value.load()); };
    std::vector<std::pair<std::string, double>> values = {
        {"requests", count(n_requests)},
        {"requests_finished", count(n_finished)},
        {"requests_cancelled", count(n_cancelled)},
        {"requests_failed", count(n_failed)},
        {"requests_rejected", count(n_rejected)},
        {"requests_parked", count(n_parked)},
        {"requests_running", count(n_running)},
        {"requests_queued", count(n_queued)},
        {"prompt_tokens", count(n_prompt_tokens)},
        {"prompt_seconds", seconds(prompt_us)},
        {"cached_tokens", count(n_cached_tokens)},
        {"shared_tokens", count(n_shared_tokens)},
        {"prefix_waits", count(n_prefix_waits)},
        {"generated_tokens", count(n_generated_tokens)},
        {"generation_seconds", seconds(generation_us)},
        {"steps", count(n_steps)},
        {"step_tokens", count(n_step_tokens)},
        {"busy_slots", count(n_busy_slots)},
        {"prefix_refused", count(n_prefix_refused)},
        {"tokens_max", count(n_tokens_max)},
        {"controls_refused", count(n_controls_refused)},
        {"step_budget_seconds", step_budget_ms.load() / 1e3},
        {"step_prompt_tokens", count(step_prompt_tokens)},
        {"step_decode_seconds", step_decode_ms.load() / 1e3},
        {"step_token_seconds", step_token_ms.load() / 1e3},
    };
    for (size_t i = 0; i < n_control_actions; ++i) {
        values.emplace_back(std::string("controls_") + control_action_names[i], count(n_controls[i]));
    }
    return values;
}

std::vector<std::pair<std::string, histogram_values>> metrics::histograms() const {
    return {
        {"queue_time", queue_time.values()},
        {"time_to_first_token", time_to_first_token.values()},
        {"token_gap", token_gap.values()},
        {"prompt_length", prompt_length.values()},
    };
}

}  // namespace pyllama
