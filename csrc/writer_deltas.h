// The in-process API's dialect: one JSON object a line.
//
//   {"type":"start","id":...}
//   {"type":"delta","reasoning":...,"content":...,"tool_calls":[...],"logprobs":[...]}   only the members present
//   {"type":"finish","finish_reason":...,"usage":{...},"timings":{...},"stop_string":...}
//   {"type":"error","error":{...}}                                                        instead of finish
#pragma once

#include "answer_format.h"
#include "chat_parser.h"
#include "frame_writer.h"

namespace pyllama {

class writer_deltas : public frame_writer {
  public:
    writer_deltas(answer_format format, chat_parser parser);

    void start(frame_sink & sink) override;
    void progress(const prefill_progress & progress, frame_sink & sink) override;
    void pieces(std::vector<piece> & batch, frame_sink & sink) override;
    void finish(const generation_result & result, frame_sink & sink) override;
    void fail(const error & reason, frame_sink & sink) override;
    double flush_due_ms() const override { return parser_.flush_due_ms(); }
    void flush(frame_sink & sink) override;
    bool is_costly() const override { return parser_.is_costly(); }
    void share_budget(size_t n_costly) override { parser_.share_budget(n_costly); }
    std::string_view content_type() const override { return "application/x-ndjson"; }

  private:
    void write(const chat_delta & delta, frame_sink & sink);

    answer_format format_;
    chat_parser parser_;
    std::string logprobs_;  // of tokens whose text no line carried yet
    std::string timings_;   // the newest "timings" member, when pieces carry them
    std::string line_;      // reused
};

}  // namespace pyllama
