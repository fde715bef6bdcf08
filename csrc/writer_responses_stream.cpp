#include "writer_responses_stream.h"

#include "control_json.h"
#include "json_text.h"
#include "sse.h"

namespace pyllama {

namespace {

using kind = answer_block::kind;

const char * delta_type(kind type) {
    switch (type) {
        case kind::reasoning: return "response.reasoning_text.delta";
        case kind::content: return "response.output_text.delta";
        case kind::tool_call: break;
    }
    return "response.function_call_arguments.delta";
}

const char * done_type(kind type) {
    switch (type) {
        case kind::reasoning: return "response.reasoning_text.done";
        case kind::content: return "response.output_text.done";
        case kind::tool_call: break;
    }
    return "response.function_call_arguments.done";
}

}  // namespace

void writer_responses_stream::begin(std::string_view type) {
    event_.assign(sse::event_prefix).append(type).append("\n").append(sse::data_prefix);
    event_.append("{\"type\":\"").append(type).append("\",\"sequence_number\":");
    append_integer(event_, n_events_++);
}

// ... and where in the response it belongs.
void writer_responses_stream::begin_in(std::string_view type, const answer_block & block) {
    begin(type);
    event_ += ",\"output_index\":";
    append_integer(event_, static_cast<int64_t>(block.index));
    event_ += ",\"item_id\":";
    append_quoted(event_, item_id(block));
    event_ += block.type == kind::tool_call ? "" : ",\"content_index\":0";
}

void writer_responses_stream::close_event(frame_sink & sink) {
    event_.append("}").append(sse::event_end);
    sink.frame(event_);
}

void writer_responses_stream::part_event(std::string_view type, const answer_block & block, bool with_text,
                                         frame_sink & sink) {
    begin_in(type, block);
    event_ += ",\"part\":";
    append_part(event_, block, with_text);
    close_event(sink);
}

void writer_responses_stream::response_event(std::string_view type, response_status status,
                                             const generation_result * result, const error * failure,
                                             frame_sink & sink) {
    begin(type);
    event_ += ",\"response\":";
    append_response(event_, response_, status, blocks(), result, failure);
    if (result != nullptr) {
        event_ += ",\"timings\":";
        append_timings(event_, result->timings);
    }
    close_event(sink);
}

void writer_responses_stream::start(frame_sink & sink) {
    response_event("response.created", response_status::in_progress, nullptr, nullptr, sink);
    response_event("response.in_progress", response_status::in_progress, nullptr, nullptr, sink);
}

void writer_responses_stream::progress(const prefill_progress & progress, frame_sink & sink) {
    begin("response.in_progress");
    event_ += ",\"response\":";
    append_response(event_, brief_, response_status::in_progress, blocks(), nullptr);
    event_ += ",\"prompt_progress\":";
    append_progress(event_, progress, format_.timings_per_token);
    close_event(sink);
}

void writer_responses_stream::opened(const answer_block & block, frame_sink & sink) {
    begin("response.output_item.added");
    event_ += ",\"output_index\":";
    append_integer(event_, static_cast<int64_t>(block.index));
    event_ += ",\"item\":";
    append_new_item(event_, block);
    close_event(sink);
    if (block.type != kind::tool_call) {
        part_event("response.content_part.added", block, false, sink);
    }
}

void writer_responses_stream::grew(const answer_block & block, std::string_view text, const std::string & logprobs,
                                   frame_sink & sink) {
    begin_in(delta_type(block.type), block);
    event_ += ",\"delta\":";
    append_quoted(event_, text);
    if (block.type == kind::content) {
        event_.append(",\"logprobs\":[").append(logprobs).append("]");
    }
    event_ += timings();
    close_event(sink);
}

void writer_responses_stream::closed(const answer_block & block, frame_sink & sink) {
    begin_in(done_type(block.type), block);
    if (block.type == kind::tool_call) {
        event_ += ",\"name\":";
        append_quoted(event_, block.name);
        event_ += ",\"arguments\":";
    } else {
        event_ += ",\"text\":";
    }
    append_quoted(event_, block.text);
    if (block.type == kind::content) {
        event_.append(",\"logprobs\":[").append(block.logprobs).append("]");
    }
    close_event(sink);
    if (block.type != kind::tool_call) {
        part_event("response.content_part.done", block, true, sink);
    }
    begin("response.output_item.done");
    event_ += ",\"output_index\":";
    append_integer(event_, static_cast<int64_t>(block.index));
    event_ += ",\"item\":";
    append_item(event_, block);
    close_event(sink);
}

void writer_responses_stream::write_control(const choice_state &, const control_note & note, frame_sink & sink) {
    begin("response.control");
    event_ += ",\"control\":";
    append_control_note(event_, note);
    close_event(sink);
}

void writer_responses_stream::end(frame_sink & sink) {
    const response_status status = status_of(result());
    const bool says_incomplete =
        status == response_status::cancelled || (status == response_status::incomplete && !response_.telemetry);
    response_event(says_incomplete ? "response.incomplete" : "response.completed", status, &result(), nullptr, sink);
}

void writer_responses_stream::fail(const error & reason, frame_sink & sink) {
    response_event("response.failed", response_status::failed, nullptr, &reason, sink);
    std::string object;
    append_error(object, reason);
    sink.frame(sse::error_event(object));
}

}  // namespace pyllama
