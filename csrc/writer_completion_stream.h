// OpenAI's legacy text_completion events, as llama-server sends them:
//
//   (progress | text | control chunk)*, finish chunk with usage, [DONE]
//
// Of several choices the last finish chunk has the usage of all.
#pragma once

#include "completion_writer.h"

namespace pyllama {

class writer_completion_stream : public completion_stream {
  public:
    explicit writer_completion_stream(completion_format format);

    void pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) override;
    void finish(const generation_result & result, frame_sink & sink) override;
    void end(frame_sink & sink) override;

  private:
    void open_event(int32_t choice) override { open_event(choice, nullptr); }
    void open_event(int32_t choice, const generation_result * result);

    generation_result total_;
    size_t n_ended_ = 0;   // choices
    std::string members_;  // the constant end of every event
};

}  // namespace pyllama
