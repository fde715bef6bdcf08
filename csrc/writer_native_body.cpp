#include "writer_native_body.h"

namespace pyllama {

void writer_native_body::pieces(std::vector<piece> & batch, frame_sink &) {
    text_.add(format_, batch);
}

void writer_native_body::finish(const generation_result & result, frame_sink & sink) {
    if (!format_.return_tokens) {
        text_.tokens.clear();
    }
    sink.frame(native_answer(format_, text_, result, true));
}

}  // namespace pyllama
