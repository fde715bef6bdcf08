// A dialect: the state machine that turns one request's pieces into the bytes a client receives. A request has one
// choice or several (n), which are numbered from 0 and come and end in any order. Used by the render thread only, one
// call at a time; made on the caller's thread by prompt preparation.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "types.h"

namespace pyllama {

// Where frames go. Each call to frame() is one event of the stream: readers never see half of it first.
class frame_sink {
  public:
    virtual ~frame_sink() = default;
    virtual void frame(std::string_view bytes) = 0;
};

class frame_writer {
  public:
    virtual ~frame_writer() = default;

    // The request got its slot.
    virtual void start(frame_sink & sink) = 0;

    // How far the prompt is; only when the request asked, and only between start() and the first pieces. Every
    // step is told.
    virtual void progress(const prefill_progress &, frame_sink &) {}

    // New pieces of one choice, in order; never called with none. The writer may move out of them. No piece is a note.
    virtual void pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) = 0;

    // A control took effect between the choice's pieces before and those to come. Only when the request asked for
    // controls.
    virtual void control(int32_t, const control_note &, frame_sink &) {}

    // A choice ended, once for each. It has a failure only beside other choices that go on or came to an end.
    virtual void finish(const generation_result & result, frame_sink & sink) = 0;

    // At most one of end() and fail() is called, last, and only after start(): end() when every choice has finished,
    // fail() from any point on. fail() appends the dialect's error event. A request that fails before its start gets
    // no fail(): no bytes were sent, and the HTTP layer answers with a status instead. A writer that has thrown gets
    // fail() as its last call and is destroyed.
    virtual void end(frame_sink & sink) = 0;
    virtual void fail(const error & reason, frame_sink & sink) = 0;

    // Milliseconds after which pieces() wants to be called again, although nothing new came, because text is
    // waiting for a re-parse; negative when nothing waits.
    virtual double flush_due_ms() const { return -1; }
    virtual void flush(frame_sink &) {}

    // In how many of the choices the next pieces cost the more the longer the answer is. All such choices of all
    // writers share one budget of time: share_budget() says how many there are at the moment.
    virtual size_t n_costly() const { return 0; }
    virtual void share_budget(size_t) {}

    // The media type of the body: "text/event-stream", "application/json" or "application/x-ndjson".
    virtual std::string_view content_type() const = 0;
};

}  // namespace pyllama
