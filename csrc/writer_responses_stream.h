// OpenAI's Responses as events; each is one frame, with its type as name and as first member, and a sequence_number:
//
//   created, in_progress, (in_progress with prompt_progress)*,
//   for each item:  output_item.added,
//                   reasoning:  content_part.added, reasoning_text.delta*, reasoning_text.done, content_part.done,
//                   message:    content_part.added, output_text.delta*, output_text.done, content_part.done,
//                   call:       function_call_arguments.delta*, function_call_arguments.done,
//                   output_item.done
//   completed | incomplete
//
// each with "response." before it. A cut answer to a request for timings or progress, which are llama-server's, ends as
// llama-server's answers do: completed, with the status incomplete. One that was cancelled ends incomplete, with the
// status cancelled. From any point on instead: response.failed and then
// an error event, which is what the clients of OpenAI raise on. Controls are events of their own, response.control,
// between any two.
#pragma once

#include "responses_format.h"

namespace pyllama {

class writer_responses_stream : public block_writer {
  public:
    writer_responses_stream(responses_format format, std::vector<chat_parser> parsers)
        : block_writer(format, std::move(parsers)), brief_{format_, {}}, response_(std::move(format)) {}

    void start(frame_sink & sink) override;
    void progress(const prefill_progress & progress, frame_sink & sink) override;
    void end(frame_sink & sink) override;
    void fail(const error & reason, frame_sink & sink) override;
    std::string_view content_type() const override { return "text/event-stream"; }

  private:
    void opened(const answer_block & block, frame_sink & sink) override;
    void grew(const answer_block & block, std::string_view text, const std::string & logprobs,
              frame_sink & sink) override;
    void closed(const answer_block & block, frame_sink & sink) override;
    void write_control(const choice_state & choice, const control_note & note, frame_sink & sink) override;

    void begin(std::string_view type);
    void begin_in(std::string_view type, const answer_block & block);
    void close_event(frame_sink & sink);
    void part_event(std::string_view type, const answer_block & block, bool with_text, frame_sink & sink);
    void response_event(std::string_view type, response_status status, const generation_result * result,
                        const error * failure, frame_sink & sink);

    responses_format brief_;  // of events that come often
    responses_format response_;
    int64_t n_events_ = 0;
    std::string event_;  // reused
};

}  // namespace pyllama
