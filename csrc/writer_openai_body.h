// OpenAI's chat.completion: the whole answer as one JSON body, written at the end. A failure writes nothing: the
// session carries it, and HTTP answers with its status.
#pragma once

#include "answer_format.h"
#include "chat_parser.h"
#include "frame_writer.h"

namespace pyllama {

class writer_openai_body : public frame_writer {
  public:
    writer_openai_body(answer_format format, chat_parser parser);

    void start(frame_sink &) override {}
    void pieces(std::vector<piece> & batch, frame_sink & sink) override;
    void finish(const generation_result & result, frame_sink & sink) override;
    void fail(const error &, frame_sink &) override {}
    std::string_view content_type() const override { return "application/json"; }

  private:
    answer_format format_;
    chat_parser parser_;  // not incremental: parses once
    std::string logprobs_;
};

}  // namespace pyllama
