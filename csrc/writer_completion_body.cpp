#include "writer_completion_body.h"

namespace pyllama {

void writer_completion_body::pieces(std::vector<piece> & batch, frame_sink &) {
    text_.add(format_, batch);
}

void writer_completion_body::finish(const generation_result & result, frame_sink & sink) {
    std::string body = "{\"choices\":[";
    append_completion_choice(body, 0, text_, &result);
    body += "]," + envelope_members(format_, "text_completion") + ",\"usage\":";
    append_usage(body, result);
    body += ",\"timings\":";
    append_timings(body, result.timings);
    body += '}';
    sink.frame(body);
}

}  // namespace pyllama
