// Tells one event loop that streams changed: a descriptor that becomes readable, and the set of dirty keys.
// Data never rides in the wake-up. The descriptor is written only when the set was empty, so a burst of
// changes costs one write.
//
// mark(), add() and signal(): any thread, never block. drain() and fd(): the loop's thread. wait(): a notifier thread
// on platforms whose loops cannot watch a descriptor.
#pragma once

#include <cstdint>
#include <mutex>
#include <unordered_set>
#include <vector>

namespace pyllama {

class waker {
  public:
    waker();  // eventfd on Linux, a pipe elsewhere; throws error(engine) when there is none to be had
    ~waker();
    waker(const waker &) = delete;
    waker & operator=(const waker &) = delete;

    int fd() const;
    void mark(uint64_t key);

    // mark() in two: true asks for a signal(), to be made when the caller holds no lock. The loop may have the caller's
    // core from then on, and would wait for whatever the caller still holds.
    bool add(uint64_t key);
    void signal();

    // Takes the set and clears the descriptor, as one: a mark after this wakes again, so edge-triggered use is safe.
    // The set may be empty, where a signal came after its key had been taken. After close() the descriptor stays
    // readable, as at a pipe's end: stop watching it then.
    std::vector<uint64_t> drain();

    // Blocks until something is marked or close() is called; false once closed. Several threads may wait.
    bool wait();

    // Any thread; idempotent. Wakes wait(), and mark() does nothing from now on. The descriptor itself lives as
    // long as the object, so that nobody ever polls a number that was given away again.
    void close();

  private:
    void clear();

    std::mutex mutex_;
    std::unordered_set<uint64_t> dirty_;
    int read_fd_ = -1;
    int write_fd_ = -1;
    bool closed_ = false;
};

}  // namespace pyllama
