// What the dialects that stream typed deltas share: pieces go through the chat parser, and what it tells becomes
// frames. A dialect says how a delta looks, and what stands at the start and at the end.
#pragma once

#include "answer_format.h"
#include "chat_parser.h"
#include "frame_writer.h"

namespace pyllama {

class delta_writer : public frame_writer {
  public:
    delta_writer(answer_format format, chat_parser parser);

    void pieces(std::vector<piece> & batch, frame_sink & sink) override;
    void control(const control_note & note, frame_sink & sink) override;
    void flush(frame_sink & sink) override;
    double flush_due_ms() const override { return parser_.flush_due_ms(); }
    bool is_costly() const override { return parser_.is_costly(); }
    void share_budget(size_t n_costly) override { parser_.share_budget(n_costly); }

  protected:
    // May be called with an empty delta, which makes no frame.
    virtual void write(const chat_delta & delta, frame_sink & sink) = 0;
    virtual void write_control(const control_note & note, frame_sink & sink) = 0;

    answer_format format_;
    chat_parser parser_;
    std::string logprobs_;  // JSON objects, joined by commas: of tokens whose text no frame carried yet
    std::string timings_;   // the newest "timings" member, when pieces carry them
};

}  // namespace pyllama
