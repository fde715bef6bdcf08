// Anthropic's messages as events; each is one frame, with its type as name and in its data:
//
//   message_start,
//   for each block:  content_block_start,
//                    content_block_delta (thinking_delta* signature_delta | text_delta* | input_json_delta*),
//                    content_block_stop
//   message_delta, message_stop
//
// or, from any point on, one error event and nothing after it. message_start tells what of the prompt was cached, so it
// waits for the first progress, which comes with the start. Controls are events of their own, between any two.
#pragma once

#include "anthropic_format.h"

namespace pyllama {

class writer_anthropic_stream : public block_writer {
  public:
    writer_anthropic_stream(anthropic_format format, std::vector<chat_parser> parsers)
        : block_writer(format, std::move(parsers)), message_(std::move(format)) {}

    void start(frame_sink &) override {}
    void progress(const prefill_progress & progress, frame_sink & sink) override;
    void pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) override;
    void control(int32_t choice, const control_note & note, frame_sink & sink) override;
    void finish(const generation_result & result, frame_sink & sink) override;
    void end(frame_sink & sink) override;
    void fail(const error & reason, frame_sink & sink) override;
    std::string_view content_type() const override { return "text/event-stream"; }

  private:
    void opened(const answer_block & block, frame_sink & sink) override;
    void grew(const answer_block & block, std::string_view text, const std::string & logprobs,
              frame_sink & sink) override;
    void closed(const answer_block & block, frame_sink & sink) override;
    void write_control(const choice_state & choice, const control_note & note, frame_sink & sink) override;

    void start_message(int32_t n_prompt, int32_t n_cached, frame_sink & sink);
    void begin(std::string_view type);
    void begin_in(std::string_view type, const answer_block & block);
    void close_event(frame_sink & sink);

    anthropic_format message_;
    bool started_ = false;
    std::string event_;  // reused
};

}  // namespace pyllama
