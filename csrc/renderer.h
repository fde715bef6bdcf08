// The render thread: takes pending pieces of dirty channels, runs their dialect, appends the frames to the
// rings and wakes the readers' loops. It never touches the llama_context, and it never takes the GIL.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "stream.h"

namespace pyllama {

class renderer {
  public:
    renderer();
    ~renderer();  // joins

    // Engine thread: note a channel as dirty (O(1), no wake-up yet), then tell the thread once per step.
    void mark(std::shared_ptr<channel> dirty);
    void notify();

    // Renders what is pending, then ends the thread. Idempotent; any thread but the render thread.
    void close();

  private:
    void run();
    std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<std::shared_ptr<channel>> dirty_;
    bool closed_ = false;
    std::thread thread_;
};

}  // namespace pyllama
