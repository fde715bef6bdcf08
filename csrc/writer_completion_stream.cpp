#include "writer_completion_stream.h"

#include "json_text.h"
#include "sse.h"

namespace pyllama {

writer_completion_stream::writer_completion_stream(completion_format format)
    : format_(std::move(format)), members_("]," + envelope_members(format_, "text_completion")) {}

void writer_completion_stream::open_event(const generation_result * result) {
    event_.assign(sse::data_prefix).append("{\"choices\":[");
    append_completion_choice(event_, 0, text_, result);
    event_.append(members_);
}

void writer_completion_stream::close_event(frame_sink & sink) {
    event_.append("}").append(sse::event_end);
    sink.frame(event_);
}

void writer_completion_stream::progress(const prefill_progress & progress, frame_sink & sink) {
    open_event(nullptr);
    event_.append(",\"prompt_progress\":");
    append_progress(event_, progress);
    close_event(sink);
}

void writer_completion_stream::pieces(std::vector<piece> & batch, frame_sink & sink) {
    text_.add(format_, batch);
    open_event(nullptr);
    event_.append(text_.timings);
    close_event(sink);
    text_.clear();
}

void writer_completion_stream::finish(const generation_result & result, frame_sink & sink) {
    open_event(&result);
    event_.append(",\"usage\":");
    append_usage(event_, result);
    event_.append(",\"timings\":");
    append_timings(event_, result.timings);
    close_event(sink);
    sink.frame(sse::done);
}

void writer_completion_stream::fail(const error & reason, frame_sink & sink) {
    std::string object;
    append_error(object, reason);
    sink.frame(sse::error_event(object));
}

}  // namespace pyllama
