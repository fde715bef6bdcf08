#include "writer_native_stream.h"

#include "json_text.h"
#include "sse.h"

namespace pyllama {

void writer_native_stream::open_event(const completion_text & text) {
    event_.assign(sse::data_prefix);
    append_native_head(event_, 0, text, false);
    event_ += ",\"id_slot\":-1,\"tokens_predicted\":";
    append_integer(event_, text.n_tokens);
    event_ += ",\"tokens_evaluated\":";
    append_integer(event_, format_.n_prompt);
}

void writer_native_stream::close_event(frame_sink & sink) {
    event_.append("}").append(sse::event_end);
    sink.frame(event_);
}

void writer_native_stream::progress(const prefill_progress & progress, frame_sink & sink) {
    open_event(text_);
    event_ += ",\"prompt_progress\":";
    append_progress(event_, progress);
    close_event(sink);
}

void writer_native_stream::tell(frame_sink & sink) {
    open_event(text_);
    event_ += text_.timings;
    if (format_.logprobs) {
        event_ += ",\"completion_probabilities\":[" + text_.probs + "]";
    }
    close_event(sink);
    text_.clear();
}

// With probabilities each token is an event of its own: clients expect one element each.
void writer_native_stream::pieces(std::vector<piece> & batch, frame_sink & sink) {
    if (!format_.logprobs) {
        text_.add(format_, batch);
        tell(sink);
        return;
    }
    std::vector<piece> one(1);
    for (piece & next : batch) {
        one.front() = std::move(next);
        text_.add(format_, one);
        tell(sink);
    }
}

void writer_native_stream::finish(const generation_result & result, frame_sink & sink) {
    sink.frame(sse::event(native_answer(format_, text_, result, false)));
}

void writer_native_stream::fail(const error & reason, frame_sink & sink) {
    std::string object;
    append_error(object, reason);
    sink.frame(sse::error_event(object));
}

}  // namespace pyllama
