#include "writer_anthropic_stream.h"

#include <utility>

#include "control_json.h"
#include "json_text.h"
#include "sse.h"

namespace pyllama {

namespace {

using kind = answer_block::kind;

const char * delta_head(kind type) {
    switch (type) {
        case kind::reasoning: return R"({"type":"thinking_delta","thinking":)";
        case kind::content: return R"({"type":"text_delta","text":)";
        case kind::tool_call: break;
    }
    return R"({"type":"input_json_delta","partial_json":)";
}

}  // namespace

void writer_anthropic_stream::begin(std::string_view type) {
    event_.assign(sse::event_prefix).append(type).append("\n").append(sse::data_prefix);
    event_.append("{\"type\":\"").append(type).append("\"");
}

void writer_anthropic_stream::begin_in(std::string_view type, const answer_block & block) {
    begin(type);
    event_ += ",\"index\":";
    append_integer(event_, static_cast<int64_t>(block.index));
}

void writer_anthropic_stream::close_event(frame_sink & sink) {
    event_.append("}").append(sse::event_end);
    sink.frame(event_);
}

void writer_anthropic_stream::start_message(int32_t n_prompt, int32_t n_cached, frame_sink & sink) {
    if (std::exchange(started_, true)) {
        return;
    }
    begin("message_start");
    event_ += ",\"message\":{" + message_members(message_);
    event_ += R"(,"content":[],"stop_reason":null,"stop_sequence":null,"usage":)";
    generation_result prompt;
    prompt.n_prompt_tokens = n_prompt;
    prompt.timings.n_cached = n_cached;
    append_anthropic_usage(event_, prompt);
    event_ += '}';
    close_event(sink);
}

void writer_anthropic_stream::progress(const prefill_progress & progress, frame_sink & sink) {
    start_message(progress.n_total, progress.n_cached, sink);
}

void writer_anthropic_stream::pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) {
    start_message(0, 0, sink);
    block_writer::pieces(choice, batch, sink);
}

void writer_anthropic_stream::control(int32_t choice, const control_note & note, frame_sink & sink) {
    start_message(0, 0, sink);
    block_writer::control(choice, note, sink);
}

void writer_anthropic_stream::finish(const generation_result & result, frame_sink & sink) {
    start_message(result.n_prompt_tokens, result.timings.n_cached, sink);
    block_writer::finish(result, sink);
}

void writer_anthropic_stream::opened(const answer_block & block, frame_sink & sink) {
    begin_in("content_block_start", block);
    event_ += ",\"content_block\":";
    append_new_block(event_, block);
    close_event(sink);
}

void writer_anthropic_stream::grew(const answer_block & block, std::string_view text, const std::string &,
                                   frame_sink & sink) {
    begin_in("content_block_delta", block);
    event_.append(",\"delta\":").append(delta_head(block.type));
    append_quoted(event_, text);
    event_ += '}';
    close_event(sink);
}

void writer_anthropic_stream::closed(const answer_block & block, frame_sink & sink) {
    if (block.type == kind::reasoning) {
        begin_in("content_block_delta", block);
        event_ += R"(,"delta":{"type":"signature_delta","signature":""})";
        close_event(sink);
    }
    begin_in("content_block_stop", block);
    close_event(sink);
}

void writer_anthropic_stream::write_control(const choice_state &, const control_note & note, frame_sink & sink) {
    begin("control");
    event_ += ",\"control\":";
    append_control_note(event_, note);
    close_event(sink);
}

void writer_anthropic_stream::end(frame_sink & sink) {
    begin("message_delta");
    event_ += ",\"delta\":{";
    append_stop(event_, message_, result(), has_tool_calls());
    event_ += "},\"usage\":";
    append_anthropic_usage(event_, result());
    close_event(sink);
    begin("message_stop");
    close_event(sink);
}

void writer_anthropic_stream::fail(const error & reason, frame_sink & sink) {
    begin("error");
    event_ += ",\"error\":";
    append_error(event_, reason);
    close_event(sink);
}

}  // namespace pyllama
