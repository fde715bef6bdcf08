#include "log_sink.h"

#include <condition_variable>
#include <cstdio>
#include <deque>
#include <mutex>

#include "llama.h"

namespace pyllama {

namespace {

constexpr size_t max_waiting_lines = 1000;

thread_local log_capture * innermost_capture = nullptr;
thread_local const std::function<void(const char *)> * watcher = nullptr;

// llama.cpp logs a line in parts, too: a part without a line end, then continuations.
struct partial_line {
    log_level level = log_level::info;
    std::string text;
};
thread_local partial_line partial;

}  // namespace

struct log_state {
    std::mutex mutex;
    std::condition_variable wake;
    std::deque<log_line> waiting;
    size_t n_dropped = 0;
    bool attached = false;
    log_level level = log_level::warn;         // in force
    log_level stderr_level = log_level::warn;  // in force again when the reader detaches

    // Never destroyed: threads of ggml may still log while the process ends.
    static log_state & get() {
        static log_state * state = new log_state;
        return *state;
    }

    static log_capture *& innermost() { return innermost_capture; }

    void line(log_level at, std::string text) {
        if (at == log_level::error && innermost_capture != nullptr) {
            std::string & captured = innermost_capture->text_;
            if (!captured.empty()) {
                captured += '\n';
            }
            captured += text;
            return;
        }
        std::lock_guard<std::mutex> lock(mutex);
        if (at < level) {
            return;
        }
        if (!attached) {
            std::fprintf(stderr, "%s\n", text.c_str());
            return;
        }
        if (waiting.size() >= max_waiting_lines) {
            ++n_dropped;
            return;
        }
        waiting.push_back({at, std::move(text)});
        wake.notify_one();
    }
};

namespace {

void on_log(ggml_log_level level, const char * text, void *) {
    if (watcher != nullptr) {
        (*watcher)(text);
    }
    if (level != GGML_LOG_LEVEL_CONT) {
        partial.level = level == GGML_LOG_LEVEL_NONE ? log_level::info : static_cast<log_level>(level);
    }
    partial.text += text;
    for (size_t end = partial.text.find('\n'); end != std::string::npos; end = partial.text.find('\n')) {
        std::string line = partial.text.substr(0, end);
        partial.text.erase(0, end + 1);
        if (!line.empty()) {
            log_state::get().line(partial.level, std::move(line));
        }
    }
}

}  // namespace

void install_log() {
    static std::once_flag once;
    std::call_once(once, [] { llama_log_set(on_log, nullptr); });
}

void set_log_level(log_level level) {
    log_state & state = log_state::get();
    const std::lock_guard<std::mutex> lock(state.mutex);
    state.stderr_level = level;
    if (!state.attached) {
        state.level = level;
    }
}

void log_text(log_level level, std::string text) {
    log_state::get().line(level, std::move(text));
}

log_capture::log_capture() : outer_(log_state::innermost()) {
    log_state::innermost() = this;
}

log_capture::~log_capture() {
    log_state::innermost() = outer_;
}

log_watch::log_watch(std::function<void(const char *)> see) : see_(std::move(see)) {
    watcher = &see_;
}

log_watch::~log_watch() {
    watcher = nullptr;
}

void attach_log_reader(log_level level) {
    log_state & state = log_state::get();
    std::lock_guard<std::mutex> lock(state.mutex);
    state.attached = true;
    state.level = level;
}

bool next_log_line(log_line & line) {
    log_state & state = log_state::get();
    std::unique_lock<std::mutex> lock(state.mutex);
    state.wake.wait(lock, [&] { return !state.waiting.empty() || state.n_dropped > 0 || !state.attached; });
    if (!state.waiting.empty()) {
        line = std::move(state.waiting.front());
        state.waiting.pop_front();
        return true;
    }
    if (state.n_dropped > 0) {
        line = {log_level::warn, std::to_string(state.n_dropped) + " log lines were dropped: the reader is too slow"};
        state.n_dropped = 0;
        return true;
    }
    return false;
}

void detach_log_reader() {
    log_state & state = log_state::get();
    std::lock_guard<std::mutex> lock(state.mutex);
    state.attached = false;
    state.level = state.stderr_level;
    state.wake.notify_all();
}

}  // namespace pyllama
