// OpenAI's chat.completion.chunk events, as llama-server sends them:
//
//   role chunk, (reasoning | content | tool call | control chunks)*, finish chunk, [usage chunk], [DONE]
//
// or, from any point on, one error event and nothing after it.
#pragma once

#include "delta_writer.h"

namespace pyllama {

class writer_openai_stream : public delta_writer {
  public:
    writer_openai_stream(answer_format format, chat_parser parser);

    void start(frame_sink & sink) override;
    void progress(const prefill_progress & progress, frame_sink & sink) override;
    void finish(const generation_result & result, frame_sink & sink) override;
    void fail(const error & reason, frame_sink & sink) override;
    std::string_view content_type() const override { return "text/event-stream"; }

  private:
    void write(const chat_delta & delta, frame_sink & sink) override;
    void write_control(const control_note & note, frame_sink & sink) override;
    void open_chunk();
    void close_chunk(frame_sink & sink);
    std::string take_logprobs();

    std::string members_;  // the constant end of every chunk
    std::string chunk_;    // reused
};

}  // namespace pyllama
