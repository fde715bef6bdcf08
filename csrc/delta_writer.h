// What the dialects that stream typed deltas share: pieces go through their choice's chat parser, and what it tells
// becomes frames. A dialect says how a delta looks, and what stands at the start and at the end.
#pragma once

#include "answer_format.h"
#include "chat_parser.h"
#include "frame_writer.h"

namespace pyllama {

class delta_writer : public frame_writer {
  public:
    // parsers: one for each choice.
    delta_writer(answer_format format, std::vector<chat_parser> parsers);

    void pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) override;
    void control(int32_t choice, const control_note & note, frame_sink & sink) override;
    void flush(frame_sink & sink) override;
    double flush_due_ms() const override;
    size_t n_costly() const override;
    void share_budget(size_t n_costly) override;

  protected:
    struct choice_state {
        int32_t index;
        chat_parser parser;
        std::string logprobs;  // JSON objects, joined by commas: of tokens whose text no frame carried yet
        std::string timings;   // the newest "timings" member, when pieces carry them
    };

    // May be called with an empty delta, which makes no frame.
    virtual void write(choice_state & choice, const chat_delta & delta, frame_sink & sink) = 0;
    virtual void write_control(const choice_state & choice, const control_note & note, frame_sink & sink) = 0;

    choice_state & choice(int32_t index) { return choices_[static_cast<size_t>(index)]; }

    answer_format format_;
    std::vector<choice_state> choices_;
};

}  // namespace pyllama
