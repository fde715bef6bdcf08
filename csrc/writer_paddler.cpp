#include "writer_paddler.h"

#include <algorithm>
#include <utility>

#include "control_json.h"
#include "json_text.h"
#include "model_json.h"

namespace pyllama {

namespace {

std::string_view finish_name(const generation_result & result) {
    if (result.reason == finish_reason::length) {
        return result.truncated ? "ContextFull" : "MaxTokens";
    }
    return result.reason == finish_reason::cancelled || result.cut ? "StopRequested" : "EndOfGeneration";
}

void append_count(std::string & out, std::string_view name, int32_t n) {
    out.append(out.back() == '{' ? "\"" : ",\"").append(name).append("\":");
    append_integer(out, n);
}

}  // namespace

writer_paddler::writer_paddler(answer_format format, std::vector<chat_parser> parsers, bool parse_tool_calls)
    : delta_writer(std::move(format), std::move(parsers)), parse_tool_calls_(parse_tool_calls) {}

void writer_paddler::pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) {
    n_unplaced_ += static_cast<int32_t>(
        std::count_if(batch.begin(), batch.end(), [](const piece & value) { return value.token != LLAMA_TOKEN_NULL; }));
    delta_writer::pieces(choice, batch, sink);
}

void writer_paddler::token(std::string_view kind, std::string_view text, frame_sink & sink) {
    if (text.empty()) {
        return;
    }
    line_.assign(R"({"GeneratedToken":{")").append(kind).append("\":");
    append_quoted(line_, text);
    line_ += "}}\n";
    sink.frame(line_);
}

void writer_paddler::write(choice_state & choice, const chat_delta & delta, frame_sink & sink) {
    choice.logprobs.clear();  // there is no place for them
    if (delta.empty()) {
        return;
    }
    token("ReasoningToken", delta.reasoning, sink);
    token("ContentToken", delta.content, sink);
    std::string text;
    for (const tool_call_delta & each : delta.tool_calls) {
        call_text(each, text);
    }
    token("ToolCallToken", text, sink);
    n_tool_call_ += delta.tool_calls.empty() ? 0 : n_unplaced_;
    n_unplaced_ = 0;
}

void writer_paddler::call_text(const tool_call_delta & delta, std::string & text) {
    if (!delta.name.empty()) {
        text += close_call();
        calls_.push_back({delta.id, delta.name, {}});
        call_open_ = true;
        text += "{\"name\":";
        append_quoted(text, delta.name);
        text += ",\"arguments\":";
    }
    text += delta.arguments;
    if (!calls_.empty()) {
        calls_.back().arguments += delta.arguments;
    }
}

std::string writer_paddler::close_call() {
    if (!std::exchange(call_open_, false)) {
        return {};
    }
    std::string & arguments = calls_.back().arguments;
    if (!arguments.empty()) {
        return "}\n";
    }
    arguments = "{}";
    return "{}}\n";
}

void writer_paddler::write_calls(frame_sink & sink) {
    line_ = R"({"GeneratedToken":{"ToolCallParsed":[)";
    for (const call & each : calls_) {
        line_ += &each == calls_.data() ? "{\"id\":" : ",{\"id\":";
        append_quoted(line_, each.id);
        line_ += ",\"name\":";
        append_quoted(line_, each.name);
        if (parse_model_json(each.arguments)) {
            line_.append(",\"arguments\":{\"ValidJson\":").append(each.arguments).append("}}");
        } else {
            line_ += ",\"arguments\":{\"InvalidJson\":";
            append_quoted(line_, each.arguments);
            line_ += "}}";
        }
    }
    line_ += "]}}\n";
    // A line is one frame, also where the model wrote its arguments over several: between JSON's tokens they are space.
    std::replace(line_.begin(), line_.end() - 1, '\n', ' ');
    sink.frame(line_);
}

void writer_paddler::append_done(const generation_result & result) {
    line_.assign(R"({"GeneratedToken":{"Done":{"finish":")").append(finish_name(result)).append(R"(","usage":{)");
    append_count(line_, "prompt_tokens", result.n_prompt_tokens);
    append_count(line_, "cached_prompt_tokens", result.timings.n_cached);
    append_count(line_, "input_image_tokens", 0);
    append_count(line_, "input_audio_tokens", 0);
    append_count(line_, "content_tokens",
                 std::max(0, result.timings.n_decoded - result.n_reasoning_tokens - n_tool_call_));
    append_count(line_, "reasoning_tokens", result.n_reasoning_tokens);
    append_count(line_, "tool_call_tokens", n_tool_call_);
    append_count(line_, "undeterminable_tokens", 0);
    line_ += "}}}}\n";
}

void writer_paddler::finish(const generation_result & result, frame_sink & sink) {
    choice_state & target = choice(result.choice);
    write(target, target.parser.finish(is_complete(result)), sink);
    token("ToolCallToken", close_call(), sink);
    if (parse_tool_calls_ && !calls_.empty()) {
        write_calls(sink);
    }
    append_done(result);
    sink.frame(line_);
}

void writer_paddler::write_control(const choice_state &, const control_note & note, frame_sink & sink) {
    line_ = "{\"Control\":";
    append_control_note(line_, note);
    line_ += "}\n";
    sink.frame(line_);
}

void writer_paddler::fail(const error & reason, frame_sink & sink) {
    line_ = R"({"Error":{"code":)";
    append_integer(line_, error_status(reason.kind));
    line_ += ",\"description\":";
    append_quoted(line_, reason.what());
    line_ += "}}\n";
    sink.frame(line_);
}

}  // namespace pyllama
