#include "writer_native_body.h"

#include "common.h"

namespace pyllama {

void writer_native_body::finish(const generation_result & result, frame_sink &) {
    const auto choice = static_cast<size_t>(result.choice);
    if (!format_.return_tokens) {
        texts_[choice].tokens.clear();
    }
    answers_[choice] = native_answer(format_, texts_[choice], result, true);
}

void writer_native_body::end(frame_sink & sink) {
    sink.frame(answers_.size() == 1 ? answers_.front() : "[" + string_join(answers_, ",") + "]");
}

}  // namespace pyllama
