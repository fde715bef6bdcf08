// One request's way from the engine to its readers:
//
//   engine thread --push--> channel (pending events) --render thread--> frame_writer --frames--> ring --> readers
//
// States of a session, which never go back:
//
//   accepted --started()--> started --finish()/fail()--> finished
//       \------------------fail()---------------------/
//
// A session exists from acceptance, so a reader may attach, and the request may be cancelled, while it is
// still queued. The producer ends a session; readers never do.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include "byte_budget.h"
#include "errors.h"
#include "ring.h"
#include "waker.h"

namespace pyllama {

enum class session_state { accepted, started, finished };

// What a session may hold.
struct stream_limits {
    size_t capacity = 0;  // bytes kept; 0 keeps everything (bodies that are sent when they are complete)
    std::shared_ptr<byte_budget> budget;  // of all sessions together; may be null
};

struct read_result {
    ring_slice slice;          // whole events, from the reader's offset on
    uint64_t next_offset = 0;  // where the next read goes on
    bool finished = false;     // nothing will follow next_offset
    bool lost = false;         // the ring overtook this offset; `first_offset` is the oldest byte left
    uint64_t first_offset = 0;
    uint64_t end_offset = 0;  // one past the newest byte
};

// The readers' side. Every method may be called from any thread; one mutex, never held while waiting.
class stream_session : private evictable {
  public:
    explicit stream_session(size_t capacity) : stream_session(stream_limits{capacity, nullptr}) {}
    explicit stream_session(stream_limits limits);
    ~stream_session();
    stream_session(const stream_session &) = delete;
    stream_session & operator=(const stream_session &) = delete;

    session_state state() const;

    // The error that ended the session before or after start, if one did.
    std::optional<error> failure() const;

    // Everything from `offset` on, at most about max_bytes, cut at an event's end. Never waits, and copies no byte. An
    // offset beyond the end is one in the future: no bytes, until the stream gets there or finishes.
    read_result read(uint64_t offset, size_t max_bytes, bool with_events = false) const;

    uint64_t end_offset() const;

    // Where the event behind `id` begins. Empty when no event of this id can have been seen; an offset that the ring
    // has lost when the event is gone.
    std::optional<uint64_t> offset_after(uint64_t id) const;

    // Says that the session will be kept for readers to come, also when it has ended. Then it holds itself to the
    // budget: while it lives it gives up its oldest bytes instead of growing, and once it has ended it may be evicted.
    // n_extra: bytes that the keeper needs for it, charged as well. Once.
    void keep(size_t n_extra);
    bool evicted() const;

    // `target` is told `key` after each change (new bytes, new state), and at once when there is something
    // already, so nothing falls between a read and the subscription. Null ends the subscriptions of that key.
    // Once unsubscribe() has returned, this session marks that key no more.
    void subscribe(std::shared_ptr<waker> target, uint64_t key);
    void unsubscribe(const waker * target, uint64_t key);

    // Producer's side: the render thread only. Nothing changes any more after finish(). None of the first
    // three wakes a reader: wake() does, once per batch of changes.
    void start();
    void append(std::string_view event);
    void finish(std::optional<error> failure);
    void wake();

  private:
    void evict() noexcept override;
    size_t allowed_block(size_t wanted, size_t n_event);
    void offer() noexcept;

    const std::shared_ptr<byte_budget> budget_;
    std::atomic<bool> kept_{false};
    size_t n_extra_ = 0;
    std::atomic<uint64_t> ticket_{0};  // the budget's; 0 = none

    mutable std::mutex mutex_;
    ring ring_;
    session_state state_ = session_state::accepted;
    std::optional<error> failure_;
    bool evicted_ = false;
    struct subscriber {
        std::shared_ptr<pyllama::waker> target;
        uint64_t key;
    };
    std::vector<subscriber> subscribers_;
};

}  // namespace pyllama
