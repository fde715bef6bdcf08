// OpenAI's chat.completion: the whole answer as one JSON body, written at the end. A failure writes nothing: the
// session carries it, and HTTP answers with its status. A choice that fails beside others keeps the text it has, with
// finish_reason "error" and the error in it.
#pragma once

#include "answer_format.h"
#include "chat_parser.h"
#include "frame_writer.h"

namespace pyllama {

class writer_openai_body : public frame_writer {
  public:
    // parsers: one for each choice, not incremental: each parses once.
    writer_openai_body(answer_format format, std::vector<chat_parser> parsers);

    void start(frame_sink &) override {}
    void pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) override;
    void finish(const generation_result & result, frame_sink & sink) override;
    void end(frame_sink & sink) override;
    void fail(const error &, frame_sink &) override {}
    std::string_view content_type() const override { return "application/json"; }

  private:
    struct choice_state {
        chat_parser parser;
        std::string logprobs;
        std::string json;  // once it has ended
    };

    answer_format format_;
    std::vector<choice_state> choices_;
    generation_result total_;
};

}  // namespace pyllama
