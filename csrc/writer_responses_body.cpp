#include "writer_responses_body.h"

namespace pyllama {

void writer_responses_body::end(frame_sink & sink) {
    std::string body;
    append_response(body, response_, status_of(result()), blocks(), &result());
    body.insert(body.size() - 1, ",\"timings\":");
    std::string timings;
    append_timings(timings, result().timings);
    body.insert(body.size() - 1, timings);
    sink.frame(body);
}

}  // namespace pyllama
