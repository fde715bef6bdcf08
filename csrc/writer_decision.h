// The answer to a decision request, one JSON body: scores come as logits with a prompt's first piece, or as outputs of
// an encoder. Used by the render thread only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "decision.h"
#include "embedding.h"
#include "frame_writer.h"

namespace pyllama {

struct decision_format {
    std::shared_ptr<const decision_rules> rules;
    std::string model;
    std::vector<decision_question> questions;
    // Of an encoder: its outputs, and where each question's scores are.
    std::shared_ptr<const embedding_results> outputs;
    std::vector<std::vector<size_t>> markers;
};

class writer_decision : public frame_writer {
  public:
    explicit writer_decision(decision_format format);

    void start(frame_sink &) override {}
    void pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) override;
    void finish(const generation_result & result, frame_sink & sink) override;
    void end(frame_sink & sink) override;
    void fail(const error &, frame_sink &) override {}  // the session carries it, and HTTP answers with its status
    std::string_view content_type() const override { return "application/json"; }

  private:
    void read_outputs();

    decision_format format_;
    std::vector<std::vector<float>> scores_;  // by question
    int64_t n_prompt_tokens_ = 0;
};

}  // namespace pyllama
