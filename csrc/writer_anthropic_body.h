// Anthropic's message as one JSON body, written at the end. A failure writes nothing: the session carries it, and HTTP
// answers with its status.
#pragma once

#include "anthropic_format.h"

namespace pyllama {

class writer_anthropic_body : public block_writer {
  public:
    writer_anthropic_body(anthropic_format format, std::vector<chat_parser> parsers)
        : block_writer(format, std::move(parsers)), message_(std::move(format)) {}

    void start(frame_sink &) override {}
    void end(frame_sink & sink) override;
    void fail(const error &, frame_sink &) override {}
    std::string_view content_type() const override { return "application/json"; }

  private:
    void write_control(const choice_state &, const control_note &, frame_sink &) override {}

    anthropic_format message_;
};

}  // namespace pyllama
