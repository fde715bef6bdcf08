// OpenAI's chat.completion.chunk events, as llama-server sends them:
//
//   role chunk, (reasoning | content | tool call chunks)*, finish chunk, [usage chunk], [DONE]
//
// or, from any point on, one error event and nothing after it.
#pragma once

#include "answer_format.h"
#include "chat_parser.h"
#include "frame_writer.h"

namespace pyllama {

class writer_openai_stream : public frame_writer {
  public:
    writer_openai_stream(answer_format format, chat_parser parser);

    void start(frame_sink & sink) override;
    void progress(const prefill_progress & progress, frame_sink & sink) override;
    void pieces(std::vector<piece> & batch, frame_sink & sink) override;
    void finish(const generation_result & result, frame_sink & sink) override;
    void fail(const error & reason, frame_sink & sink) override;
    double flush_due_ms() const override { return parser_.flush_due_ms(); }
    void flush(frame_sink & sink) override;
    bool is_costly() const override { return parser_.is_costly(); }
    void share_budget(size_t n_costly) override { parser_.share_budget(n_costly); }
    std::string_view content_type() const override { return "text/event-stream"; }

  private:
    void write(const chat_delta & delta, frame_sink & sink);
    void open_chunk();
    void close_chunk(frame_sink & sink);
    std::string take_logprobs();

    answer_format format_;
    chat_parser parser_;
    std::string members_;   // the constant end of every chunk
    std::string logprobs_;  // of tokens whose text no chunk carried yet
    std::string timings_;   // the newest "timings" member, when pieces carry them
    std::string chunk_;     // reused
};

}  // namespace pyllama
