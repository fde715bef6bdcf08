#include "writer_completion_body.h"

#include "common.h"

namespace pyllama {

void writer_completion_body::finish(const generation_result & result, frame_sink &) {
    const auto choice = static_cast<size_t>(result.choice);
    append_completion_choice(answers_[choice], result.choice, texts_[choice], &result);
    add_result(total_, result);
}

void writer_completion_body::end(frame_sink & sink) {
    total_.n_prompt_tokens = format_.n_prompt_tokens();
    std::string body = "{\"choices\":[" + string_join(answers_, ",") + "],";
    body += envelope_members(format_, "text_completion") + ",\"usage\":";
    append_usage(body, total_);
    body += ",\"timings\":";
    append_timings(body, total_.timings);
    body += '}';
    sink.frame(body);
}

}  // namespace pyllama
