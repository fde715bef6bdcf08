// The render thread: takes pending pieces of dirty channels, runs their dialect, appends the frames to the
// rings and wakes the readers' loops. It never touches the llama_context, and it never takes the GIL.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "channel.h"
#include "thread.h"

namespace pyllama {

class renderer {
  public:
    using clock = std::chrono::steady_clock;

    // A wake-up takes a core from ggml's workers, and the event loop's and the client's follow it. Tokens that come
    // faster than this share one: nobody sees two milliseconds.
    static constexpr clock::duration default_pace = std::chrono::milliseconds(2);

    // after: called on the render thread when it has rendered what was pending. Throws error(engine) when there is no
    // thread to be had.
    explicit renderer(std::function<void()> after = {}, clock::duration pace = default_pace);
    ~renderer();  // closes
    renderer(const renderer &) = delete;
    renderer & operator=(const renderer &) = delete;

    // Engine thread: note a channel as dirty (O(1), no wake-up yet), then tell the thread once per step. It renders at
    // once, or, in a rapid succession of steps, no later than two paces after the last time it did.
    // After close() a mark is dropped.
    void mark(std::shared_ptr<channel> dirty);
    void notify();

    // Renders what is pending, waiting text included, then ends the thread and waits for it. Idempotent; any
    // thread but the render thread.
    void close();

  private:
    // Channels whose writer wants a flush although nothing new came, and when. Few, so a scan finds the next.
    using flush_times = std::unordered_map<std::shared_ptr<channel>, clock::time_point>;

    // What the render thread remembers of its channels.
    struct watch_list {
        flush_times flushes;
        // The costly choices of each channel, by identity: together they keep to one choice's budget.
        std::unordered_map<const channel *, size_t> costly;
        size_t n_costly = 0;  // their sum

        void update(const std::shared_ptr<channel> & rendered);
        void count_costly(channel & rendered);
    };

    void run();
    bool take(std::vector<std::shared_ptr<channel>> & taken, const flush_times & flushes);

    const std::function<void()> after_;
    const clock::duration pace_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<std::shared_ptr<channel>> dirty_;
    bool closed_ = false;
    clock::time_point notified_;
    bool rapid_ = false;     // the last notify() came less than a pace after the one before
    clock::time_point due_;  // no wake-up before; the thread looks by itself a pace later

    std::mutex close_mutex_;  // one close() joins, the others wait for it
    named_thread thread_;
};

}  // namespace pyllama
