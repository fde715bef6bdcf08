#include "writer_openai_stream.h"

#include <utility>

#include "control_json.h"
#include "json_text.h"
#include "sse.h"

namespace pyllama {

namespace {

std::string take_logprobs(std::string & logprobs) {
    if (logprobs.empty()) {
        return {};
    }
    return ",\"logprobs\":{\"content\":[" + std::exchange(logprobs, {}) + "]}";
}

}  // namespace

writer_openai_stream::writer_openai_stream(answer_format format, std::vector<chat_parser> parsers)
    : delta_writer(std::move(format), std::move(parsers)),
      members_("," + envelope_members(format_, "chat.completion.chunk")) {}

void writer_openai_stream::open_chunk(const choice_state & choice) {
    chunk_.assign(sse::data_prefix).append(R"({"choices":[{"finish_reason":null,"index":)");
    append_integer(chunk_, choice.index);
    chunk_.append(R"(,"delta":{)");
}

void writer_openai_stream::close_chunk(choice_state & choice, frame_sink & sink) {
    chunk_.append("}").append(take_logprobs(choice.logprobs)).append("}]").append(members_);
    chunk_.append(choice.timings).append("}").append(sse::event_end);
    sink.frame(chunk_);
}

void writer_openai_stream::start(frame_sink & sink) {
    for (choice_state & each : choices_) {
        open_chunk(each);
        chunk_.append(R"("role":"assistant","content":null)");
        close_chunk(each, sink);
    }
}

void writer_openai_stream::progress(const prefill_progress & progress, frame_sink & sink) {
    chunk_.assign(sse::data_prefix)
        .append(R"({"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}])")
        .append(members_)
        .append(",\"prompt_progress\":");
    append_progress(chunk_, progress, format_.timings_per_token);
    chunk_.append("}").append(sse::event_end);
    sink.frame(chunk_);
}

void writer_openai_stream::write(choice_state & choice, const chat_delta & delta, frame_sink & sink) {
    if (!delta.reasoning.empty()) {
        open_chunk(choice);
        chunk_.append("\"reasoning_content\":");
        append_quoted(chunk_, delta.reasoning);
        close_chunk(choice, sink);
    }
    if (!delta.content.empty()) {
        open_chunk(choice);
        chunk_.append("\"content\":");
        append_quoted(chunk_, delta.content);
        close_chunk(choice, sink);
    }
    for (const tool_call_delta & call : delta.tool_calls) {
        open_chunk(choice);
        chunk_.append("\"tool_calls\":[");
        append_tool_call_delta(chunk_, call);
        chunk_.append("]");
        close_chunk(choice, sink);
    }
}

void writer_openai_stream::write_control(const choice_state & choice, const control_note & note, frame_sink & sink) {
    open_chunk(choice);
    chunk_.append("}}]").append(members_).append(",\"control\":");
    append_control_note(chunk_, note);
    chunk_.append("}").append(sse::event_end);
    sink.frame(chunk_);
}

void writer_openai_stream::finish(const generation_result & result, frame_sink & sink) {
    choice_state & target = choice(result.choice);
    write(target, target.parser.finish(is_complete(result)), sink);
    add_result(total_, result);

    chunk_.assign(sse::data_prefix).append(R"({"choices":[{"finish_reason":)");
    append_quoted(chunk_, finish_reason_name(result, target.parser.has_tool_calls()));
    chunk_.append(",\"index\":");
    append_integer(chunk_, result.choice);
    chunk_.append(R"(,"delta":{})").append(take_logprobs(target.logprobs));
    append_failure(chunk_, result);
    chunk_.append("}]").append(members_);
    if (!format_.include_usage) {
        chunk_.append(",\"timings\":");
        append_timings(chunk_, result.timings);
    }
    chunk_.append("}").append(sse::event_end);
    sink.frame(chunk_);
}

void writer_openai_stream::end(frame_sink & sink) {
    if (format_.include_usage) {
        chunk_.assign(sse::data_prefix).append("{\"choices\":[]").append(members_).append(",\"usage\":");
        append_usage(chunk_, total_);
        chunk_.append(",\"timings\":");
        append_timings(chunk_, total_.timings);
        chunk_.append("}").append(sse::event_end);
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
