// The in-process API's dialect: one JSON object a line.
//
//   {"type":"start","id":...}
//   {"type":"delta","reasoning":...,"content":...,"tool_calls":[...],"logprobs":[...]}   only the members present
//   {"type":"control","control":{...}}                                                    a control took effect here
//   {"type":"finish","finish_reason":...,"usage":{...},"timings":{...},"stop_string":...}
//   {"type":"error","error":{...}}                                                        instead of finish
//
// With several choices, each line of a choice other than the first has its "index", and a finish line tells of its own
// choice only; one that failed beside others has finish_reason "error" and an "error" member.
#pragma once

#include "delta_writer.h"

namespace pyllama {

class writer_deltas : public delta_writer {
  public:
    using delta_writer::delta_writer;

    void start(frame_sink & sink) override;
    void progress(const prefill_progress & progress, frame_sink & sink) override;
    void finish(const generation_result & result, frame_sink & sink) override;
    void end(frame_sink &) override {}
    void fail(const error & reason, frame_sink & sink) override;
    std::string_view content_type() const override { return "application/x-ndjson"; }

  private:
    void write(choice_state & choice, const chat_delta & delta, frame_sink & sink) override;
    void write_control(const choice_state & choice, const control_note & note, frame_sink & sink) override;
    void open_line(const choice_state & choice, std::string_view type);
    void append_logprobs_of(choice_state & choice);

    std::string line_;  // reused
};

}  // namespace pyllama
