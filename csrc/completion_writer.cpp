#include "completion_writer.h"

#include "control_json.h"
#include "json_text.h"
#include "sse.h"

namespace pyllama {

void completion_body::pieces(int32_t choice, std::vector<piece> & batch, frame_sink &) {
    texts_[static_cast<size_t>(choice)].add(format_, batch);
}

void completion_stream::close_event(frame_sink & sink) {
    event_.append("}").append(sse::event_end);
    sink.frame(event_);
}

void completion_stream::progress(const prefill_progress & progress, frame_sink & sink) {
    open_event(0);
    event_.append(",\"prompt_progress\":");
    append_progress(event_, progress, format_.timings_per_token);
    close_event(sink);
}

void completion_stream::control(int32_t choice, const control_note & note, frame_sink & sink) {
    open_event(choice);
    event_.append(",\"control\":");
    append_control_note(event_, note);
    close_event(sink);
}

void completion_stream::fail(const error & reason, frame_sink & sink) {
    std::string object;
    append_error(object, reason);
    sink.frame(sse::error_event(object));
}

}  // namespace pyllama
