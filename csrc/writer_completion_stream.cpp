#include "writer_completion_stream.h"

#include "json_text.h"
#include "sse.h"

namespace pyllama {

writer_completion_stream::writer_completion_stream(completion_format format)
    : completion_stream(std::move(format)), members_("]," + envelope_members(format_, "text_completion")) {}

void writer_completion_stream::open_event(int32_t choice, const generation_result * result) {
    event_.assign(sse::data_prefix).append("{\"choices\":[");
    append_completion_choice(event_, choice, texts_[static_cast<size_t>(choice)], result);
    event_.append(members_);
}

void writer_completion_stream::pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) {
    completion_text & text = texts_[static_cast<size_t>(choice)];
    text.add(format_, batch);
    open_event(choice);
    event_.append(text.timings);
    close_event(sink);
    text.clear();
}

void writer_completion_stream::finish(const generation_result & result, frame_sink & sink) {
    open_event(result.choice, &result);
    add_result(total_, result);
    if (++n_ended_ == texts_.size()) {
        total_.n_prompt_tokens = format_.n_prompt_tokens();
        event_.append(",\"usage\":");
        append_usage(event_, total_);
    }
    event_.append(",\"timings\":");
    append_timings(event_, result.timings);
    close_event(sink);
}

void writer_completion_stream::end(frame_sink & sink) {
    sink.frame(sse::done);
}

}  // namespace pyllama
