#include "renderer.h"

#include <algorithm>
#include <utility>

namespace pyllama {

namespace {

// The chat parser recurses as deep as the text nests.
constexpr size_t n_stack_bytes = size_t{64} * 1024 * 1024;

// It runs for some ten microseconds at a time, while ggml's workers have all the cores.
constexpr uint32_t slice_us = 100;

// A writer's wish, kept within reason: never a busy loop, never a deadline beyond what the clock can hold.
constexpr double flush_ms_min = 1;
constexpr double flush_ms_max = 60'000;

}  // namespace

renderer::renderer(std::function<void()> after, clock::duration pace)
    : after_(std::move(after)), pace_(pace), notified_(clock::now() - pace) {
    thread_ = named_thread({"pyllama-render", n_stack_bytes, slice_us}, [this] { run(); });
}

renderer::~renderer() {
    close();
}

void renderer::mark(std::shared_ptr<channel> dirty) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!closed_) {
        dirty_.push_back(std::move(dirty));
    }
}

void renderer::notify() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (dirty_.empty()) {
            return;
        }
        const clock::time_point now = clock::now();
        rapid_ = now - notified_ < pace_;
        notified_ = now;
        if (now < due_) {
            return;
        }
    }
    wake_.notify_one();
}

void renderer::close() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        closed_ = true;
    }
    wake_.notify_one();
    const std::lock_guard<std::mutex> lock(close_mutex_);
    thread_.join();
}

// Waits for dirty channels, a flush that is due, or the end. False at the end.
bool renderer::take(std::vector<std::shared_ptr<channel>> & taken, const flush_times & flushes) {
    const auto sooner = [](const auto & a, const auto & b) { return a.second < b.second; };
    const clock::time_point flush_due =
        flushes.empty() ? clock::time_point::max() : std::min_element(flushes.begin(), flushes.end(), sooner)->second;
    std::unique_lock<std::mutex> lock(mutex_);
    if (rapid_) {
        const auto gathered = [this] { return closed_ || (!dirty_.empty() && clock::now() >= due_); };
        wake_.wait_until(lock, std::min(due_ + pace_, flush_due), gathered);
    }
    due_ = {};  // a step was slow in coming: the next one is rendered at once
    const auto ready = [this] { return closed_ || !dirty_.empty(); };
    if (flushes.empty()) {
        wake_.wait(lock, ready);
    } else {
        wake_.wait_until(lock, flush_due, ready);
    }
    taken.swap(dirty_);
    if (rapid_) {
        due_ = clock::now() + pace_;
    }
    return !closed_;
}

void renderer::watch_list::count_costly(channel & rendered) {
    const size_t n = rendered.n_costly();
    const auto known = costly.find(&rendered);
    const size_t n_before = known != costly.end() ? known->second : 0;
    if (n > 0) {
        costly[&rendered] = n;
    } else if (n_before > 0) {
        costly.erase(known);
    }
    n_costly = n_costly + n - n_before;
    if (n > 0) {
        rendered.share_budget(n_costly);
    }
}

void renderer::watch_list::update(const std::shared_ptr<channel> & rendered) {
    count_costly(*rendered);
    const double due_ms = rendered->flush_due_ms();
    if (!(due_ms >= 0)) {
        flushes.erase(rendered);
    } else {
        const double delay_ms = std::clamp(due_ms, flush_ms_min, flush_ms_max);
        flushes[rendered] = clock::now() + std::chrono::microseconds(static_cast<int64_t>(delay_ms * 1000));
    }
}

void renderer::run() {
    std::vector<std::shared_ptr<channel>> taken;
    watch_list watched;

    // Channels deal with their writers' exceptions; what is left is memory running out in the bookkeeping
    // here, which costs one channel a flush and must not cost the process.
    const auto guarded = [](const auto & body) {
        try {
            body();
        } catch (...) {
        }
    };
    for (bool open = true; open;) {
        open = take(taken, watched.flushes);
        for (const std::shared_ptr<channel> & dirty : taken) {
            guarded([&] {
                dirty->share_budget(watched.n_costly);
                dirty->render();
                watched.update(dirty);
            });
        }
        taken.clear();

        const clock::time_point now = clock::now();
        guarded([&] {
            for (const auto & [waiting, due] : watched.flushes) {
                if (!open || due <= now) {
                    taken.push_back(waiting);
                }
            }
        });
        for (const std::shared_ptr<channel> & due : taken) {
            guarded([&] {
                due->share_budget(watched.n_costly);
                due->flush();
                watched.update(due);
            });
        }
        taken.clear();
        if (open && after_) {
            after_();
        }
    }
}

}  // namespace pyllama
