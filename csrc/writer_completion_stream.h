// OpenAI's legacy text_completion events, as llama-server sends them:
//
//   (progress | text chunk)*, finish chunk with usage, [DONE]
//
// or, from any point on, one error event and nothing after it. Of several choices the last finish chunk has the usage
// of all.
#pragma once

#include "completion_format.h"
#include "frame_writer.h"

namespace pyllama {

class writer_completion_stream : public frame_writer {
  public:
    explicit writer_completion_stream(completion_format format);

    void start(frame_sink &) override {}
    void progress(const prefill_progress & progress, frame_sink & sink) override;
    void pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) override;
    void finish(const generation_result & result, frame_sink & sink) override;
    void end(frame_sink & sink) override;
    void fail(const error & reason, frame_sink & sink) override;
    std::string_view content_type() const override { return "text/event-stream"; }

  private:
    void open_event(int32_t choice, const generation_result * result);
    void close_event(frame_sink & sink);

    completion_format format_;
    std::vector<completion_text> texts_;
    generation_result total_;
    size_t n_ended_ = 0;   // choices
    std::string members_;  // the constant end of every event
    std::string event_;    // reused
};

}  // namespace pyllama
