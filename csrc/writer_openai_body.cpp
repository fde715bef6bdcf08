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

writer_openai_body::writer_openai_body(answer_format format, chat_parser parser)
    : format_(std::move(format)), parser_(std::move(parser)) {}

void writer_openai_body::pieces(std::vector<piece> & batch, frame_sink &) {
    if (format_.logprobs) {
        append_logprobs(logprobs_, *format_.loaded_model, batch);
    }
    parser_.feed(batch);
}

void writer_openai_body::finish(const generation_result & result, frame_sink & sink) {
    const chat_delta answer = parser_.finish(is_complete(result));
    std::string body = R"({"choices":[{"finish_reason":)";
    append_quoted(body, finish_reason_name(result, parser_.has_tool_calls()));
    body += ",\"index\":0,\"message\":";
    append_message(body, answer);
    if (format_.logprobs) {
        body += ",\"logprobs\":{\"content\":[" + logprobs_ + "]}";
    }
    body += "}]," + envelope_members(format_, "chat.completion") + ",\"usage\":";
    append_usage(body, result);
    body += ",\"timings\":";
    append_timings(body, result.timings);
    body += '}';
    sink.frame(body);
}

}  // namespace pyllama
