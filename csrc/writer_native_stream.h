// llama-server's own completion events:
//
//   (progress | {"index","content","tokens","stop":false,...})*, {...,"stop":true,"generation_settings",...}
//
// or, from any point on, one error event and nothing after it. No [DONE].
#pragma once

#include "completion_format.h"
#include "frame_writer.h"

namespace pyllama {

class writer_native_stream : public frame_writer {
  public:
    explicit writer_native_stream(completion_format format) : format_(std::move(format)), texts_(format_.n_choices) {}

    void start(frame_sink &) override {}
    void progress(const prefill_progress & progress, frame_sink & sink) override;
    void pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) override;
    void finish(const generation_result & result, frame_sink & sink) override;
    void end(frame_sink &) override {}
    void fail(const error & reason, frame_sink & sink) override;
    std::string_view content_type() const override { return "text/event-stream"; }

  private:
    void open_event(int32_t choice);
    void close_event(frame_sink & sink);
    void tell(int32_t choice, frame_sink & sink);

    completion_format format_;
    std::vector<completion_text> texts_;
    std::string event_;  // reused
};

}  // namespace pyllama
