// The engine's side of a stream: pushed by the engine thread, drained by the render thread, which writes frames into
// the session. stream.h draws the whole way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "frame_writer.h"
#include "stream.h"
#include "types.h"

namespace pyllama {

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
