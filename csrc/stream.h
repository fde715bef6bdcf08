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
    std::string bytes;         // whole events, from the reader's offset on
    uint64_t next_offset = 0;  // where the next read goes on
    bool finished = false;     // nothing will follow next_offset
    bool lost = false;         // the ring overtook this offset; `first_offset` is the oldest byte left
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

    // Everything from `offset` on, at most about max_bytes, cut at an event's end. Never waits. The copy is
    // made under the mutex, so ask for no more than one send wants. An offset beyond the end is one in the
    // future: no bytes, until the stream gets there or finishes.
    read_result read(uint64_t offset, size_t max_bytes) const;

    uint64_t end_offset() const;

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
    mutable std::mutex mutex_;
    ring ring_;
    session_state state_ = session_state::accepted;
    std::optional<error> failure_;
    struct subscriber {
        std::shared_ptr<pyllama::waker> target;
        uint64_t key;
    };
    std::vector<subscriber> subscribers_;
};

// The engine's side of the same request: pushed by the engine thread, drained by the render thread.
class channel {
  public:
    // n_choices: generations that push into it, each with its own number.
    channel(std::unique_ptr<frame_writer> writer, std::shared_ptr<stream_session> session, int32_t n_choices = 1);

    // Engine thread. Cheap: a mutex and a move. Each returns true when the channel was clean, i.e. when the
    // renderer has to be told. Progress, pieces and a finish imply the start. Each choice finishes once; the last
    // one's finish ends the request, as an error when all of them failed. So does a failure, at any time. What comes
    // later is ignored.
    bool push_start();
    bool push_progress(const prefill_progress & progress);
    bool push(piece && value);
    bool push_finish(generation_result && result);
    bool push_failure(error && reason);

    // Render thread. Takes all that is pending, writes it into the session's ring and wakes the readers when
    // that changed something. Returns true once the session has finished; the writer is gone by then. Any
    // exception of the writer ends the session with an error. A failure before the start sends no bytes: it
    // is only to be found in the session's failure().
    bool render();
    // Render thread: as frame_writer, with the same care for exceptions.
    double flush_due_ms() const;
    void flush();
    size_t n_costly() const;
    void share_budget(size_t n_costly);

    const std::shared_ptr<stream_session> & session() const { return session_; }

  private:
    struct events {
        bool start = false;
        std::vector<prefill_progress> progress;
        std::vector<piece> pieces;
        std::vector<generation_result> results;
        std::optional<error> failure;  // of the whole request
    };
    class session_sink;

    bool mark_dirty();
    void write(events & taken, session_sink & sink);
    void write_pieces(std::vector<piece> & pieces, session_sink & sink);
    void write_choice(int32_t choice, std::vector<piece> & pieces, session_sink & sink);
    void write_results(events & taken, session_sink & sink);
    void start_writer(session_sink & sink);
    void give_up(error reason, session_sink & sink);
    void end(std::optional<error> failure);

    std::mutex mutex_;
    bool dirty_ = false;
    int32_t n_open_;  // choices whose finish was not pushed yet; 0 = nothing more is taken
    events pending_;

    std::shared_ptr<stream_session> session_;
    // Render thread only.
    std::unique_ptr<frame_writer> writer_;
    const size_t n_choices_;
    size_t n_ended_ = 0;  // choices
    size_t n_failed_ = 0;
    bool started_ = false;
    bool finished_ = false;
};

}  // namespace pyllama
