// Any dialect, with llama-server's debugging aid: the first answer once more as its own native object, under
// "__verbose" in the body or in the event that ends the answer.
#pragma once

#include <memory>
#include <string>

#include "completion_format.h"
#include "frame_writer.h"

namespace pyllama {

class writer_verbose : public frame_writer {
  public:
    writer_verbose(std::unique_ptr<frame_writer> inner, completion_format format)
        : inner_(std::move(inner)), format_(std::move(format)) {}

    void start(frame_sink & sink) override { inner_->start(sink); }
    void progress(const prefill_progress & progress, frame_sink & sink) override { inner_->progress(progress, sink); }
    void pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) override;
    void control(int32_t choice, const control_note & note, frame_sink & sink) override {
        inner_->control(choice, note, sink);
    }
    void finish(const generation_result & result, frame_sink & sink) override;
    void end(frame_sink & sink) override;
    void fail(const error & reason, frame_sink & sink) override { inner_->fail(reason, sink); }
    double flush_due_ms() const override { return inner_->flush_due_ms(); }
    void flush(frame_sink & sink) override { inner_->flush(sink); }
    size_t n_costly() const override { return inner_->n_costly(); }
    void share_budget(size_t n_costly) override { inner_->share_budget(n_costly); }
    std::string_view content_type() const override { return inner_->content_type(); }

  private:
    std::unique_ptr<frame_writer> inner_;
    completion_format format_;
    completion_text text_;
    std::string member_;  // what no frame carried yet
};

}  // namespace pyllama
