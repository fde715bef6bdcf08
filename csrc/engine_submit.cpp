// The callers' side: what is submitted, cancelled and controlled reaches the engine thread at its next step.

#include <algorithm>
#include <iterator>

#include "engine.h"

namespace pyllama {

submitted engine::submit(prepared_request && prepared) {
    std::unique_ptr<arrival> on_its_way = std::move(prepared.on_its_way);
    check_media(prepared);
    if (prepared.embeddings) {
        return submit_embedding(std::move(prepared));
    }
    if (!generates_) {
        throw error(error_kind::unsupported, "this model makes embeddings: it cannot generate text");
    }
    if (prepared.params.id_slot >= n_slots()) {
        throw bad_request("id_slot " + std::to_string(prepared.params.id_slot) + " does not exist: there are " +
                              std::to_string(n_slots()) + " slots",
                          "id_slot");
    }
    if (!prepared.params.lora) {
        prepared.params.lora = lora();
    }
    if (params_.share_within_key && !prepared.owner.empty()) {
        prepared.params.domain += '\0' + prepared.owner;  // no salt has that byte
    }
    const int32_t n_choices = prepared.n_choices;
    if (n_choices > n_slots()) {
        throw bad_request(
            "n " + std::to_string(n_choices) + " is too large: there are " + std::to_string(n_slots()) + " slots", "n");
    }
    // The one that it was prepared with stays, should the engine fall asleep in between.
    const std::shared_ptr<const model> source = prepared.model ? prepared.model : shared_model();
    const bool streams = prepared.stream || prepared.background;
    const stream_limits limits{streams ? static_cast<size_t>(params_.stream_buffer_bytes) : 0, budget_};
    const std::vector<further_prompt> more_prompts = prepared.more_prompts;
    std::vector<std::unique_ptr<generation>> leaders;
    leaders.push_back(std::make_unique<generation>(source, std::move(prepared), limits, n_ctx_slot_, shifts_));
    const generation & first = *leaders.front();
    for (const further_prompt & prompt : more_prompts) {
        const int32_t choice = n_choices * static_cast<int32_t>(leaders.size());
        leaders.push_back(std::make_unique<generation>(first, choice, prompt));
    }
    submitted handle{first.id(), first.output()->session(), first.control(), {}};
    for (const auto & leader : leaders) {
        handle.choices.push_back(leader->control());
        for (int32_t n = 1; n < n_choices; ++n) {
            leader->add_follower(std::make_unique<generation>(*leader, n));
            handle.choices.push_back(leader->followers().back()->control());
        }
    }
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        const size_t n_before = n_waiting_;
        enter_queue(leaders.size() * static_cast<size_t>(n_choices));
        if (n_waiting_ > n_idle_) {  // until the engine thread has looked at its priority
            handle.control->group->queue_position = static_cast<int32_t>(n_before);
        }
        std::move(leaders.begin(), leaders.end(), std::back_inserter(submitted_));
        on_its_way.reset();
    }
    wake_.notify_one();
    return handle;
}

// Under mutex_. n: slots that the request needs, at some time.
void engine::enter_queue(size_t n) {
    if (refusing_) {
        throw error(error_kind::unavailable, refusal_);
    }
    const bool can_start = n_waiting_ + n <= n_idle_;
    const auto max_queue = static_cast<size_t>(params_.max_queue);
    if (!can_start && (max_queue == 0 || n_waiting_ >= max_queue + n_idle_)) {
        metrics_.n_rejected++;
        error refused(error_kind::busy, "too many requests are waiting (" + std::to_string(n_waiting_) + ")");
        refused.retry_after = service_.until_served(n_waiting_ + n, static_cast<size_t>(n_slots()));
        throw refused;
    }
    n_waiting_ += n;
    last_used_ = generation::clock::now();
    metrics_.n_requests++;
    metrics_.n_queued += static_cast<int64_t>(n);
}

// n: slots that are not waited for any more.
void engine::left_queue(size_t n) {
    if (n > 0) {
        const std::lock_guard<std::mutex> lock(mutex_);
        n_waiting_ -= n;
        metrics_.n_queued -= static_cast<int64_t>(n);
    }
}

void engine::cancel(const std::shared_ptr<generation_control> & control) {
    control->group->cancelled.store(true, std::memory_order_relaxed);
    poke();
}

bool engine::control(generation_control & target, posted_control && control) {
    if (!target.post(std::move(control))) {
        return false;
    }
    poke();
    return true;
}

lora_set engine::lora() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return lora_;
}

void engine::set_lora(lora_set set) {
    const std::lock_guard<std::mutex> lock(mutex_);
    lora_ = std::move(set);
}

void engine::poke() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        poked_ = true;
    }
    wake_.notify_one();
}

}  // namespace pyllama
