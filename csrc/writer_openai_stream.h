// OpenAI's chat.completion.chunk events, as llama-server sends them:
//
//   role chunk, (reasoning | content | tool call | control chunks)*, finish chunk, [usage chunk], [DONE]
//
// or, from any point on, one error event and nothing after it. The role chunks of all choices come first; what follows
// of each choice bears its index. A choice that fails beside others ends with finish_reason "error" and the error in
// it. The usage is that of all choices.
#pragma once

#include "delta_writer.h"

namespace pyllama {

class writer_openai_stream : public delta_writer {
  public:
    writer_openai_stream(answer_format format, std::vector<chat_parser> parsers);

    void start(frame_sink & sink) override;
    void progress(const prefill_progress & progress, frame_sink & sink) override;
    void finish(const generation_result & result, frame_sink & sink) override;
    void end(frame_sink & sink) override;
    void fail(const error & reason, frame_sink & sink) override;
    std::string_view content_type() const override { return "text/event-stream"; }

  private:
    void write(choice_state & choice, const chat_delta & delta, frame_sink & sink) override;
    void write_control(const choice_state & choice, const control_note & note, frame_sink & sink) override;
    void open_chunk(const choice_state & choice);
    void close_chunk(choice_state & choice, frame_sink & sink);

    std::string members_;  // the constant end of every chunk
    std::string chunk_;    // reused
    generation_result total_;
};

}  // namespace pyllama
