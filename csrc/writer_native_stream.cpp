#include "writer_native_stream.h"

#include "json_text.h"
#include "sse.h"

namespace pyllama {

void writer_native_stream::open_event(int32_t choice) {
    const completion_text & text = texts_[static_cast<size_t>(choice)];
    event_.assign(sse::data_prefix);
    append_native_head(event_, choice, text, false);
    if (format_.controllable) {
        event_ += ",\"id\":";
        append_quoted(event_, format_.id);
    }
    event_ += ",\"id_slot\":-1,\"tokens_predicted\":";
    append_integer(event_, text.n_tokens);
    event_ += ",\"tokens_evaluated\":";
    append_integer(event_, format_.prompt_of(choice).n_tokens);
}

void writer_native_stream::tell(int32_t choice, frame_sink & sink) {
    completion_text & text = texts_[static_cast<size_t>(choice)];
    open_event(choice);
    event_ += text.timings;
    if (format_.logprobs) {
        event_ += ",\"completion_probabilities\":[" + text.probs + "]";
    }
    close_event(sink);
    text.clear();
}

// With probabilities each token is an event of its own: clients expect one element each.
void writer_native_stream::pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) {
    completion_text & text = texts_[static_cast<size_t>(choice)];
    if (!format_.logprobs) {
        text.add(format_, batch);
        tell(choice, sink);
        return;
    }
    std::vector<piece> one(1);
    for (piece & next : batch) {
        one.front() = std::move(next);
        text.add(format_, one);
        tell(choice, sink);
    }
}

void writer_native_stream::finish(const generation_result & result, frame_sink & sink) {
    sink.frame(sse::event(native_answer(format_, texts_[static_cast<size_t>(result.choice)], result, false)));
}

}  // namespace pyllama
