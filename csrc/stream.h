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

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "frame_writer.h"
#include "ring.h"
#include "types.h"
#include "waker.h"

namespace pyllama {

enum class session_state { accepted, started, finished };

struct read_result {
    std::string bytes;          // whole events, from the reader's offset on
    uint64_t next_offset = 0;   // where the next read goes on
    bool finished = false;      // nothing will follow next_offset
    bool lost = false;          // the ring overtook this offset; `first_offset` is the oldest byte left
    uint64_t first_offset = 0;
};

// The readers' side. Every method may be called from any thread; one mutex, never held while waiting.
class stream_session {
  public:
    // capacity: bytes kept; 0 keeps everything (bodies that are sent only when they are complete).
    explicit stream_session(size_t capacity);

    session_state state() const;

    // The error that ended the session before or after start, if one did.
    std::optional<error> failure() const;

    // Everything from `offset` on, at most about max_bytes, cut at an event's end. Never waits.
    read_result read(uint64_t offset, size_t max_bytes) const;

    uint64_t end_offset() const;

    // `waker` is told `key` after each change (new bytes, new state); null ends the subscription of that key.
    void subscribe(std::shared_ptr<waker> waker, uint64_t key);
    void unsubscribe(const waker * waker, uint64_t key);

    // Producer's side: the render thread only.
    void start();
    void append(std::string_view event);
    void finish(std::optional<error> failure);
    void wake();  // once per batch of appends

  private:
    mutable std::mutex mutex_;
    ring ring_;
    session_state state_ = session_state::accepted;
    std::optional<error> failure_;
    struct subscriber {
        std::shared_ptr<waker> target;
        uint64_t key;
    };
    std::vector<subscriber> subscribers_;
};

// The engine's side of the same request: pushed by the engine thread, drained by the render thread.
class channel {
  public:
    channel(std::unique_ptr<frame_writer> writer, std::shared_ptr<stream_session> session);

    // Engine thread. Cheap: a mutex and a move. Each returns true when the channel was clean, i.e. when the
    // renderer has to be told.
    bool push_start();
    bool push(piece && value);
    bool push_finish(generation_result && result);
    bool push_failure(error && reason);

    // Render thread. Takes all that is pending and writes it into the session's ring. Returns true once the
    // session has finished. Any exception of the writer ends the session with an error.
    bool render();
    // Render thread: as frame_writer.
    double flush_due_ms() const;
    void flush();

    const std::shared_ptr<stream_session> & session() const { return session_; }

  private:
    std::mutex mutex_;
    bool dirty_ = false;
    bool start_pending_ = false;
    std::vector<piece> pieces_;
    std::optional<generation_result> result_;
    std::optional<error> failure_;

    // Render thread only.
    std::unique_ptr<frame_writer> writer_;
    std::shared_ptr<stream_session> session_;
    bool finished_ = false;
};

}  // namespace pyllama
