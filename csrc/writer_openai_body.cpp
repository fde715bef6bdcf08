#include "writer_openai_body.h"

#include "json_text.h"

namespace pyllama {

namespace {

void append_tool_call(std::string & out, const tool_call_delta & call) {
    out += "{\"type\":\"function\",\"function\":{\"name\":";
    append_quoted(out, call.name);
    out += ",\"arguments\":";
    append_quoted(out, call.arguments);
    out += "},\"id\":";
    append_quoted(out, call.id);
    out += '}';
}

void append_message(std::string & out, const chat_delta & answer) {
    out += R"({"role":"assistant","content":)";
    append_quoted(out, answer.content);
    if (!answer.reasoning.empty()) {
        out += ",\"reasoning_content\":";
        append_quoted(out, answer.reasoning);
    }
    if (!answer.tool_calls.empty()) {
        out += ",\"tool_calls\":[";
        for (size_t i = 0; i < answer.tool_calls.size(); ++i) {
            out += i > 0 ? "," : "";
            append_tool_call(out, answer.tool_calls[i]);
        }
        out += ']';
    }
    out += '}';
}

}  // namespace

writer_openai_body::writer_openai_body(answer_format format, std::vector<chat_parser> parsers)
    : format_(std::move(format)) {
    choices_.reserve(parsers.size());
    for (chat_parser & parser : parsers) {
        choices_.push_back({std::move(parser), {}, {}});
    }
}

void writer_openai_body::pieces(int32_t index, std::vector<piece> & batch, frame_sink &) {
    choice_state & choice = choices_[static_cast<size_t>(index)];
    if (format_.logprobs) {
        append_logprobs(choice.logprobs, *format_.loaded_model, batch);
    }
    choice.parser.feed(batch);
}

void writer_openai_body::finish(const generation_result & result, frame_sink &) {
    choice_state & choice = choices_[static_cast<size_t>(result.choice)];
    add_result(total_, result);
    const chat_delta answer = choice.parser.finish(is_complete(result));
    choice.json = "{\"finish_reason\":";
    append_quoted(choice.json, finish_reason_name(result, choice.parser.has_tool_calls()));
    choice.json += ",\"index\":";
    append_integer(choice.json, result.choice);
    choice.json += ",\"message\":";
    append_message(choice.json, answer);
    if (format_.logprobs) {
        choice.json += ",\"logprobs\":{\"content\":[" + choice.logprobs + "]}";
    }
    append_failure(choice.json, result);
    choice.json += '}';
}

void writer_openai_body::end(frame_sink & sink) {
    std::string body = "{\"choices\":[";
    for (const choice_state & each : choices_) {
        body += body.back() == '[' ? "" : ",";
        body += each.json;
    }
    body += "]," + envelope_members(format_, "chat.completion") + ",\"usage\":";
    append_usage(body, total_);
    body += ",\"timings\":";
    append_timings(body, total_.timings);
    body += '}';
    sink.frame(body);
}

}  // namespace pyllama
