#include "writer_openai_stream.h"

#include "control_json.h"
#include "json_text.h"
#include "sse.h"

namespace pyllama {

writer_openai_stream::writer_openai_stream(answer_format format, chat_parser parser)
    : delta_writer(std::move(format), std::move(parser)),
      members_("," + envelope_members(format_, "chat.completion.chunk")) {}

void writer_openai_stream::open_chunk() {
    chunk_.assign(sse::data_prefix).append(R"({"choices":[{"finish_reason":null,"index":0,"delta":{)");
}

void writer_openai_stream::close_chunk(frame_sink & sink) {
    chunk_.append("}").append(take_logprobs()).append("}]").append(members_).append(timings_).append("}");
    chunk_.append(sse::event_end);
    sink.frame(chunk_);
}

std::string writer_openai_stream::take_logprobs() {
    if (logprobs_.empty()) {
        return {};
    }
    std::string out = ",\"logprobs\":{\"content\":[" + logprobs_ + "]}";
    logprobs_.clear();
    return out;
}

void writer_openai_stream::start(frame_sink & sink) {
    open_chunk();
    chunk_.append(R"("role":"assistant","content":null)");
    close_chunk(sink);
}

void writer_openai_stream::progress(const prefill_progress & progress, frame_sink & sink) {
    chunk_.assign(sse::data_prefix)
        .append(R"({"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}])")
        .append(members_)
        .append(",\"prompt_progress\":");
    append_progress(chunk_, progress);
    chunk_.append("}").append(sse::event_end);
    sink.frame(chunk_);
}

void writer_openai_stream::write(const chat_delta & delta, frame_sink & sink) {
    if (!delta.reasoning.empty()) {
        open_chunk();
        chunk_.append("\"reasoning_content\":");
        append_quoted(chunk_, delta.reasoning);
        close_chunk(sink);
    }
    if (!delta.content.empty()) {
        open_chunk();
        chunk_.append("\"content\":");
        append_quoted(chunk_, delta.content);
        close_chunk(sink);
    }
    for (const tool_call_delta & call : delta.tool_calls) {
        open_chunk();
        chunk_.append("\"tool_calls\":[");
        append_tool_call_delta(chunk_, call);
        chunk_.append("]");
        close_chunk(sink);
    }
}

void writer_openai_stream::write_control(const control_note & note, frame_sink & sink) {
    chunk_.assign(sse::data_prefix)
        .append(R"({"choices":[{"finish_reason":null,"index":0,"delta":{}}])")
        .append(members_)
        .append(",\"control\":");
    append_control_note(chunk_, note);
    chunk_.append("}").append(sse::event_end);
    sink.frame(chunk_);
}

void writer_openai_stream::finish(const generation_result & result, frame_sink & sink) {
    write(parser_.finish(is_complete(result)), sink);

    std::string timings = ",\"timings\":";
    append_timings(timings, result.timings);

    chunk_.assign(sse::data_prefix).append(R"({"choices":[{"finish_reason":)");
    append_quoted(chunk_, finish_reason_name(result, parser_.has_tool_calls()));
    chunk_.append(R"(,"index":0,"delta":{})").append(take_logprobs()).append("}]").append(members_);
    if (!format_.include_usage) {
        chunk_.append(timings);
    }
    chunk_.append("}").append(sse::event_end);
    sink.frame(chunk_);

    if (format_.include_usage) {
        chunk_.assign(sse::data_prefix).append("{\"choices\":[]").append(members_).append(",\"usage\":");
        append_usage(chunk_, result);
        chunk_.append(timings).append("}").append(sse::event_end);
        sink.frame(chunk_);
    }
    sink.frame(sse::done);
}

void writer_openai_stream::fail(const error & reason, frame_sink & sink) {
    std::string object;
    append_error(object, reason);
    sink.frame(sse::error_event(object));
}

}  // namespace pyllama
