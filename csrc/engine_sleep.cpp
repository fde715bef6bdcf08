// Sleep: an engine without work for --sleep-idle-seconds frees its context and its model, and loads them again for
// the next caller. What its slots hold goes to the prompt cache. Generations hold the model that they were made with,
// so nothing that lives outside of the engine is touched by it.

#include <algorithm>

#include "engine.h"
#include "log_sink.h"

namespace pyllama {

std::shared_ptr<const model> engine::shared_model() {
    std::unique_lock<std::mutex> lock(mutex_);
    last_used_ = generation::clock::now();
    if (model_) {
        return model_;
    }
    const uint64_t n_failed = n_failed_wakes_;
    wake_wanted_ = true;
    wake_.notify_one();
    awake_.wait(lock, [&] { return model_ || refusing_ || n_failed_wakes_ != n_failed; });
    if (model_) {
        return model_;
    }
    throw refusing_ ? error(error_kind::unavailable, refusal_) : *wake_failure_;
}

std::shared_ptr<const model> engine::awake_model() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return model_;
}

bool engine::idle() const {
    return queue_.empty() && embeddings_.empty() &&
           std::all_of(slots_.begin(), slots_.end(), [](const slot & each) { return each.is_idle(); });
}

// Under mutex_.
std::optional<generation::clock::time_point> engine::sleep_time() const {
    if (params_.common.sleep_idle_seconds <= 0 || sleeping() || refusing_ || !idle()) {
        return std::nullopt;
    }
    return last_used_ + std::chrono::seconds(params_.common.sleep_idle_seconds);
}

void engine::fall_asleep() {
    log_text(log_level::info, "the engine falls asleep");
    for (slot & each : slots_) {
        prompts_.keep(decoder_->context(), each);
        clear_cache(decoder_->context(), each);
    }
    if (encoder_) {
        encoder_->forget();
    }
    count_running();
    scheduler_.reset();
    decoder_.reset();
    std::shared_ptr<const model> given_away;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        given_away = std::move(model_);
        model_.reset();
        sleeping_ = true;
    }
    last_model_ = given_away;
}

// False when it sleeps on: the engine ends, or the model cannot be loaded, and then whoever waits for it is told.
bool engine::wake_up() {
    std::optional<error> failure;
    try {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            failure = refusing_ ? std::optional<error>(error(error_kind::unavailable, refusal_)) : std::nullopt;
        }
        if (!failure) {
            std::shared_ptr<const model> loaded = last_model_.lock();
            if (!loaded) {
                common_params watched = params_.common;
                wake_progress_.attach(watched);
                loaded = model::load(std::move(watched));
            }
            make_context(*loaded);
            {
                const std::lock_guard<std::mutex> lock(mutex_);
                model_ = std::move(loaded);
                sleeping_ = false;
                wake_wanted_ = false;
                last_used_ = generation::clock::now();
            }
            awake_.notify_all();
            log_text(log_level::info, "the engine is awake");
            return true;
        }
    } catch (const std::exception & reason) {
        // The reason names files: it is for who runs the server.
        log_text(log_level::error, std::string("the engine could not wake up: ") + reason.what());
        failure = error(error_kind::unavailable, "the model could not be loaded again after its sleep");
    }
    scheduler_.reset();
    decoder_.reset();
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        wake_failure_ = failure;
        ++n_failed_wakes_;
        wake_wanted_ = false;
    }
    awake_.notify_all();
    drain();
    fail_all(*failure);
    resting_ = true;
    return false;
}

}  // namespace pyllama
