// llama-server's own completion as one JSON body, written at the end; of several choices a list. A failure writes
// nothing: the session carries it, and HTTP answers with its status.
#pragma once

#include "completion_format.h"
#include "frame_writer.h"

namespace pyllama {

class writer_native_body : public frame_writer {
  public:
    explicit writer_native_body(completion_format format)
        : format_(std::move(format)), texts_(format_.n_choices), answers_(format_.n_choices) {}

    void start(frame_sink &) override {}
    void pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) override;
    void finish(const generation_result & result, frame_sink & sink) override;
    void end(frame_sink & sink) override;
    void fail(const error &, frame_sink &) override {}
    std::string_view content_type() const override { return "application/json"; }

  private:
    completion_format format_;
    std::vector<completion_text> texts_;
    std::vector<std::string> answers_;  // JSON of the choices that have ended
};

}  // namespace pyllama
