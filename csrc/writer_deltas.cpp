#include "writer_deltas.h"

#include "control_json.h"
#include "json_text.h"

namespace pyllama {

void writer_deltas::start(frame_sink & sink) {
    line_ = R"({"type":"start","id":)";
    append_quoted(line_, format_.id);
    line_ += "}\n";
    sink.frame(line_);
}

void writer_deltas::progress(const prefill_progress & progress, frame_sink & sink) {
    line_ = R"({"type":"progress","prompt_progress":)";
    append_progress(line_, progress);
    line_ += "}\n";
    sink.frame(line_);
}

void writer_deltas::write(const chat_delta & delta, frame_sink & sink) {
    if (delta.empty()) {
        return;
    }
    line_ = R"({"type":"delta")";
    if (!delta.reasoning.empty()) {
        line_ += ",\"reasoning\":";
        append_quoted(line_, delta.reasoning);
    }
    if (!delta.content.empty()) {
        line_ += ",\"content\":";
        append_quoted(line_, delta.content);
    }
    if (!delta.tool_calls.empty()) {
        line_ += ",\"tool_calls\":[";
        for (size_t i = 0; i < delta.tool_calls.size(); ++i) {
            line_ += i > 0 ? "," : "";
            append_tool_call_delta(line_, delta.tool_calls[i]);
        }
        line_ += ']';
    }
    if (!logprobs_.empty()) {
        line_ += ",\"logprobs\":[" + logprobs_ + "]";
        logprobs_.clear();
    }
    line_ += timings_;
    line_ += "}\n";
    sink.frame(line_);
}

void writer_deltas::write_control(const control_note & note, frame_sink & sink) {
    line_ = R"({"type":"control","control":)";
    append_control_note(line_, note);
    line_ += "}\n";
    sink.frame(line_);
}

void writer_deltas::finish(const generation_result & result, frame_sink & sink) {
    write(parser_.finish(is_complete(result)), sink);
    line_ = R"({"type":"finish","finish_reason":)";
    append_quoted(line_, finish_reason_name(result, parser_.has_tool_calls()));
    if (!logprobs_.empty()) {
        line_ += ",\"logprobs\":[" + logprobs_ + "]";
        logprobs_.clear();
    }
    line_ += ",\"usage\":";
    append_usage(line_, result);
    line_ += ",\"timings\":";
    append_timings(line_, result.timings);
    if (!result.stop_string.empty()) {
        line_ += ",\"stop_string\":";
        append_quoted(line_, result.stop_string);
    }
    line_ += "}\n";
    sink.frame(line_);
}

void writer_deltas::fail(const error & reason, frame_sink & sink) {
    line_ = R"({"type":"error","error":)";
    append_error(line_, reason);
    line_ += "}\n";
    sink.frame(line_);
}

}  // namespace pyllama
