// A thread with a name, a stack size and a time slice: what the engine thread and the render thread are made of.
//
// One owner at a time: the methods of one object are not to be called by two threads at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace pyllama {

struct thread_options {
    std::string name;        // as debuggers and `top -H` show it; cut to what the system allows (Linux: 15 bytes)
    size_t stack_bytes = 0;  // 0 = the system's default. Reserved address space, not memory in use
    uint32_t slice_us = 0;   // as set_time_slice(); 0 = the system's default
};

// Asks the scheduler to run the calling thread in short turns, so that it gets a core as soon as it wakes up
// although ggml's workers keep them all busy: what it has to do is short, and a client waits for it. Linux 6.12
// and newer; elsewhere nothing happens. Threads made by this thread have the default again.
void set_time_slice(uint32_t microseconds);

class named_thread {
  public:
    named_thread();  // no thread

    // Starts the thread. `body` must not throw: an exception that leaves it ends the process. Asynchronous
    // signals are blocked in it, so that they reach the main thread and interrupt nothing here.
    // Throws error(engine) when the system has no thread to give.
    named_thread(const thread_options & options, std::function<void()> body);
    ~named_thread();  // joins
    named_thread(named_thread && other) noexcept;
    named_thread & operator=(named_thread && other) noexcept;  // joins the thread held so far

    bool joinable() const;
    void join();              // idempotent; does nothing when there is no thread. Not from the thread itself
    bool is_current() const;  // whether the caller is this thread

  private:
    struct handle;
    std::unique_ptr<handle> handle_;
};

}  // namespace pyllama
