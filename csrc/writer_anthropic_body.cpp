#include "writer_anthropic_body.h"

namespace pyllama {

void writer_anthropic_body::end(frame_sink & sink) {
    std::string body = "{" + message_members(message_) + ",\"content\":[";
    for (const answer_block & block : blocks()) {
        body += block.index > 0 ? "," : "";
        append_block(body, block);
    }
    body += "],";
    append_stop(body, message_, result(), has_tool_calls());
    body += ",\"usage\":";
    append_anthropic_usage(body, result());
    body += '}';
    sink.frame(body);
}

}  // namespace pyllama
