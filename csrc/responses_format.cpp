#include "responses_format.h"

#include <ctime>

#include "json_text.h"

namespace pyllama {

namespace {

using kind = answer_block::kind;

constexpr const char * status_names[] = {"queued", "in_progress", "completed", "incomplete", "failed", "cancelled"};

const char * name_of(response_status status) {
    return status_names[static_cast<size_t>(status)];
}

void append_item_with(std::string & out, const answer_block & block, const char * status, bool with_text) {
    out += "{\"type\":";
    switch (block.type) {
        case kind::reasoning: out += "\"reasoning\",\"summary\":[],\"encrypted_content\":\"\""; break;
        case kind::content: out += R"("message","role":"assistant")"; break;
        case kind::tool_call: out += "\"function_call\""; break;
    }
    out += ",\"id\":";
    append_quoted(out, item_id(block));
    out.append(R"(,"status":")").append(status).append("\"");
    if (block.type == kind::tool_call) {
        out += ",\"call_id\":";
        append_quoted(out, "call_" + block.id);
        out += ",\"name\":";
        append_quoted(out, block.name);
        out += ",\"arguments\":";
        append_quoted(out, with_text ? block.text : std::string());
    } else {
        out += ",\"content\":[";
        if (with_text) {
            append_part(out, block, true);
        }
        out += ']';
    }
    out += '}';
}

void append_usage_of(std::string & out, const generation_result & result) {
    out += "{\"input_tokens\":";
    append_integer(out, result.n_prompt_tokens);
    out += ",\"input_tokens_details\":{\"cached_tokens\":";
    append_integer(out, result.timings.n_cached);
    out += "},\"output_tokens\":";
    append_integer(out, result.timings.n_decoded);
    out += ",\"output_tokens_details\":{\"reasoning_tokens\":";
    append_integer(out, result.n_reasoning_tokens);
    out += "},\"total_tokens\":";
    append_integer(out, static_cast<int64_t>(result.n_prompt_tokens) + result.timings.n_decoded);
    out += '}';
}

void append_failure_of(std::string & out, const error * failure) {
    if (failure == nullptr) {
        out += "null";
        return;
    }
    out += R"({"code":"server_error","message":)";
    append_quoted(out, failure->what());
    out += '}';
}

}  // namespace

std::string item_id(const answer_block & block) {
    switch (block.type) {
        case kind::reasoning: return "rs_" + block.id;
        case kind::content: return "msg_" + block.id;
        case kind::tool_call: break;
    }
    return "fc_" + block.id;
}

void append_new_item(std::string & out, const answer_block & block) {
    append_item_with(out, block, "in_progress", false);
}

void append_item(std::string & out, const answer_block & block) {
    append_item_with(out, block, block.complete ? "completed" : "incomplete", true);
}

void append_part(std::string & out, const answer_block & block, bool with_text) {
    const bool is_content = block.type == kind::content;
    out.append("{\"type\":")
        .append(is_content ? R"("output_text","annotations":[],"logprobs":[)" : "\"reasoning_text\"");
    if (is_content) {
        out.append(with_text ? block.logprobs : "").append("]");
    }
    out += ",\"text\":";
    append_quoted(out, with_text ? block.text : std::string());
    out += '}';
}

void append_response(std::string & out, const responses_format & format, response_status status,
                     const std::vector<answer_block> & blocks, const generation_result * result,
                     const error * failure) {
    out += "{\"id\":";
    append_quoted(out, format.id);
    out += R"(,"object":"response","created_at":)";
    append_integer(out, format.created);
    out += ",\"completed_at\":";
    if (status == response_status::completed) {
        append_integer(out, static_cast<int64_t>(std::time(nullptr)));
    } else {
        out += "null";
    }
    out.append(R"(,"status":")").append(name_of(status)).append("\",\"background\":");
    out += format.background ? "true" : "false";
    out += ",\"error\":";
    append_failure_of(out, failure);
    out += ",\"incomplete_details\":";
    out += status == response_status::incomplete ? R"({"reason":"max_output_tokens"})" : "null";
    out += ",\"model\":";
    append_quoted(out, format.loaded_model->name());
    out += format.repeated;
    out += ",\"output\":[";
    for (const answer_block & block : blocks) {
        out += block.index > 0 ? "," : "";
        append_item(out, block);
    }
    out += "],\"usage\":";
    if (result != nullptr) {
        append_usage_of(out, *result);
    } else {
        out += "null";
    }
    out += '}';
}

response_status status_of(const generation_result & result) {
    switch (result.reason) {
        case finish_reason::length: return response_status::incomplete;
        case finish_reason::cancelled: return response_status::cancelled;
        case finish_reason::stop: break;
    }
    return response_status::completed;
}

}  // namespace pyllama
