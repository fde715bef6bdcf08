#include "anthropic_format.h"

#include <algorithm>

#include "json_text.h"
#include "model_json.h"

namespace pyllama {

namespace {

using kind = answer_block::kind;

// The arguments as an object: a call that was cut short has none.
std::string input_of(const answer_block & call) {
    const std::optional<common_json> parsed = parse_model_json(call.text);
    return parsed && parsed->is_object() ? parsed->dump_safe() : "{}";
}

void append_block_with(std::string & out, const answer_block & block, const std::string & text) {
    switch (block.type) {
        case kind::reasoning:
            out += R"({"type":"thinking","thinking":)";
            append_quoted(out, text);
            // There is nothing to verify in it, and clients send it back as it is.
            out += R"(,"signature":""})";
            break;
        case kind::content:
            out += R"({"type":"text","text":)";
            append_quoted(out, text);
            out += '}';
            break;
        case kind::tool_call:
            out += R"({"type":"tool_use","id":)";
            append_quoted(out, block.id);
            out += ",\"name\":";
            append_quoted(out, block.name);
            out.append(",\"input\":").append(text).append("}");
            break;
    }
}

}  // namespace

void append_new_block(std::string & out, const answer_block & block) {
    append_block_with(out, block, block.type == kind::tool_call ? "{}" : "");
}

void append_block(std::string & out, const answer_block & block) {
    append_block_with(out, block, block.type == kind::tool_call ? input_of(block) : block.text);
}

void append_stop(std::string & out, const anthropic_format & format, const generation_result & result,
                 bool has_tool_calls) {
    const bool stopped = std::find(format.stop.begin(), format.stop.end(), result.stop_string) != format.stop.end() &&
                         !result.stop_string.empty();
    const char * reason = "end_turn";
    if (result.reason == finish_reason::length) {
        reason = "max_tokens";
    } else if (stopped) {
        reason = "stop_sequence";
    } else if (has_tool_calls && is_complete(result)) {
        reason = "tool_use";
    }
    out.append(R"("stop_reason":")").append(reason).append("\",\"stop_sequence\":");
    if (stopped) {
        append_quoted(out, result.stop_string);
    } else {
        out += "null";
    }
}

void append_anthropic_usage(std::string & out, const generation_result & result) {
    out += "{\"input_tokens\":";
    append_integer(out, result.n_prompt_tokens - result.timings.n_cached);
    out += ",\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":";
    append_integer(out, result.timings.n_cached);
    out += ",\"output_tokens\":";
    append_integer(out, result.timings.n_decoded);
    out += ",\"output_tokens_details\":{\"thinking_tokens\":";
    append_integer(out, result.n_reasoning_tokens);
    out += "}}";
}

std::string message_members(const anthropic_format & format) {
    std::string out = "\"id\":";
    append_quoted(out, format.id);
    out += R"(,"type":"message","role":"assistant","model":)";
    append_quoted(out, format.loaded_model->name());
    return out;
}

}  // namespace pyllama
