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
    append_progress(line_, progress, format_.timings_per_token);
    line_ += "}\n";
    sink.frame(line_);
}

void writer_deltas::open_line(const choice_state & choice, std::string_view type) {
    line_ = "{\"type\":";
    append_quoted(line_, type);
    if (choice.index > 0) {
        line_ += ",\"index\":";
        append_integer(line_, choice.index);
    }
}

void writer_deltas::append_logprobs_of(choice_state & choice) {
    if (!choice.logprobs.empty()) {
        line_ += ",\"logprobs\":[" + choice.logprobs + "]";
        choice.logprobs.clear();
    }
}

void writer_deltas::write(choice_state & choice, const chat_delta & delta, frame_sink & sink) {
    if (delta.empty()) {
        return;
    }
    open_line(choice, "delta");
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
    append_logprobs_of(choice);
    line_ += choice.timings;
    line_ += "}\n";
    sink.frame(line_);
}

void writer_deltas::write_control(const choice_state & choice, const control_note & note, frame_sink & sink) {
    open_line(choice, "control");
    line_ += ",\"control\":";
    append_control_note(line_, note);
    line_ += "}\n";
    sink.frame(line_);
}

void writer_deltas::finish(const generation_result & result, frame_sink & sink) {
    choice_state & target = choice(result.choice);
    write(target, target.parser.finish(is_complete(result)), sink);
    open_line(target, "finish");
    line_ += ",\"finish_reason\":";
    append_quoted(line_, finish_reason_name(result, target.parser.has_tool_calls()));
    append_logprobs_of(target);
    line_ += ",\"usage\":";
    append_usage(line_, result);
    line_ += ",\"timings\":";
    append_timings(line_, result.timings);
    if (!result.stop_string.empty()) {
        line_ += ",\"stop_string\":";
        append_quoted(line_, result.stop_string);
    }
    append_failure(line_, result);
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
