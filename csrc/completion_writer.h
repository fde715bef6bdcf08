// What the dialects of raw completions share. A dialect says how an answer, or an event of it, looks.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "completion_format.h"
#include "frame_writer.h"

namespace pyllama {

// One JSON body, written at the end. A failure writes nothing: the session carries it, and HTTP answers with its
// status.
class completion_body : public frame_writer {
  public:
    explicit completion_body(completion_format format)
        : format_(std::move(format)), texts_(format_.n_choices), answers_(format_.n_choices) {}

    void start(frame_sink &) override {}
    void pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) override;
    void fail(const error &, frame_sink &) override {}
    std::string_view content_type() const override { return "application/json"; }

  protected:
    completion_format format_;
    std::vector<completion_text> texts_;
    std::vector<std::string> answers_;  // JSON of the choices that have ended
};

// Events, each opened with the text of a choice that none has told yet. A failure is one event, and nothing comes after
// it.
class completion_stream : public frame_writer {
  public:
    explicit completion_stream(completion_format format) : format_(std::move(format)), texts_(format_.n_choices) {}

    void start(frame_sink &) override {}
    void progress(const prefill_progress & progress, frame_sink & sink) override;
    void control(int32_t choice, const control_note & note, frame_sink & sink) override;
    void fail(const error & reason, frame_sink & sink) override;
    std::string_view content_type() const override { return "text/event-stream"; }

  protected:
    virtual void open_event(int32_t choice) = 0;
    void close_event(frame_sink & sink);

    completion_format format_;
    std::vector<completion_text> texts_;
    std::string event_;  // reused
};

}  // namespace pyllama
