// Paddler's dialect: each frame is what stands below "response" in its messages, one JSON value a line. Whoever sends
// it puts the envelope with the client's request id around it.
//
//   {"GeneratedToken":{"ReasoningToken":"..."}}         also ContentToken and ToolCallToken
//   {"GeneratedToken":{"ToolCallParsed":[...]}}         before the end, if the request asked for it
//   {"GeneratedToken":{"Done":{"finish":"MaxTokens","usage":{...}}}}
//   {"Error":{"code":500,"description":"..."}}          instead of Done
//   {"Control":{...}}                                   a control took effect here; for requests that opted in
//
// The text of tool calls is told in one form, whatever the model's own: a line {"name":...,"arguments":...} for each.
#pragma once

#include "delta_writer.h"

namespace pyllama {

class writer_paddler : public delta_writer {
  public:
    // One choice only.
    writer_paddler(answer_format format, std::vector<chat_parser> parsers, bool parse_tool_calls);

    void start(frame_sink &) override {}
    void pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) override;
    void finish(const generation_result & result, frame_sink & sink) override;
    void end(frame_sink &) override {}
    void fail(const error & reason, frame_sink & sink) override;
    std::string_view content_type() const override { return "application/x-ndjson"; }

  private:
    struct call {
        std::string id;
        std::string name;
        std::string arguments;
    };

    void write(choice_state & choice, const chat_delta & delta, frame_sink & sink) override;
    void write_control(const choice_state & choice, const control_note & note, frame_sink & sink) override;
    void token(std::string_view kind, std::string_view text, frame_sink & sink);
    void call_text(const tool_call_delta & delta, std::string & text);
    std::string close_call();
    void write_calls(frame_sink & sink);
    void append_done(const generation_result & result);

    const bool parse_tool_calls_;
    std::vector<call> calls_;
    bool call_open_ = false;   // the last one's line is not closed
    int32_t n_unplaced_ = 0;   // tokens since the last delta: they may belong to a tool call
    int32_t n_tool_call_ = 0;  // tokens that do
    std::string line_;         // reused
};

}  // namespace pyllama
