#include "request_anthropic.h"

#include <algorithm>
#include <limits>

#include "continuation.h"
#include "errors.h"
#include "media_source.h"
#include "projector.h"
#include "request_chat.h"
#include "sampling_fields.h"

namespace pyllama {

namespace {

// As llama-server: the field is required in Anthropic's API, and not here.
constexpr int32_t default_max_tokens = 4096;

std::string type_of(const common_json & block, const std::string & field) {
    return as_string(required(as_object(block, field), "type", field), field + ".type");
}

std::string text_of(const common_json & block, const char * member, const std::string & field) {
    return as_string(required(block, member, field), field + "." + member);
}

[[noreturn]] void refuse_block(const std::string & type, const std::string & field, const char * allowed) {
    if (type == "image") {
        // llama-server's words, which its clients look for.
        throw error(error_kind::unsupported, "image input is not supported by this model: '" + field + "'");
    }
    throw bad_request("'" + field + ".type' must be " + allowed + ", but is '" + type + "'", field + ".type");
}

// Claude Code's system prompt starts with a line that has a checksum of the request: it changes with each one, and no
// cached prompt would be found again.
void settle_billing_header(std::string & text) {
    static constexpr std::string_view header = "x-anthropic-billing-header:";
    static constexpr std::string_view member = "cch=";
    static constexpr size_t n_digits = 5;
    if (text.compare(0, header.size(), header) != 0) {
        return;
    }
    const size_t at = text.find(member, header.size());
    const size_t end = at == std::string::npos ? at : at + member.size() + n_digits;
    if (end < text.size() && text[end] == ';') {
        text.replace(at + member.size(), n_digits, n_digits, 'f');
    }
}

// Adds the messages of one body.
class message_reader {
  public:
    message_reader(const model & model, chat_request & request) : model_(model), request_(request) {}

    void read_system(const common_json & system) {
        common_chat_msg message;
        message.role = "system";
        const auto add = [&](std::string text) {
            settle_billing_header(text);
            message.content += text;
        };
        if (system.is_string()) {
            add(system.get<std::string>());
        } else if (system.is_array()) {
            for (size_t i = 0; i < system.size(); ++i) {
                const std::string field = indexed("system", i);
                const std::string type = type_of(system.at(i), field);
                if (type != "text") {
                    refuse_block(type, field, "text");
                }
                add(text_of(system.at(i), "text", field));
            }
        } else {
            wrong_type("system", "a string or a list of text blocks");
        }
        add_message(std::move(message), "system");
    }

    void read_message(const common_json & message, const std::string & field) {
        const std::string role = as_string(required(as_object(message, field), "role", field), field + ".role");
        if (role != "user" && role != "assistant" && role != "system") {
            throw bad_request("'" + field + ".role' must be user or assistant, but is '" + role + "'", field + ".role");
        }
        const std::string name = field + ".content";
        const common_json & content = required(message, "content", field);
        common_chat_msg result;
        result.role = role;
        if (content.is_string()) {
            result.content = content.get<std::string>();
            add_message(std::move(result), field);
        } else if (!content.is_array()) {
            wrong_type(name, "a string or a list of blocks");
        } else if (role == "assistant") {
            read_answer(content, name, std::move(result), field);
        } else {
            read_turn(content, name, result, field);
        }
    }

  private:
    void add_message(common_chat_msg && message, const std::string & field) {
        request_.inputs.messages.push_back(std::move(message));
        const std::string content = field == "system" ? field : field + ".content";
        request_.fields.push_back({field, content, content, content});
    }

    void read_answer(const common_json & blocks, const std::string & name, common_chat_msg && message,
                     const std::string & field) {
        for (size_t i = 0; i < blocks.size(); ++i) {
            const common_json & block = blocks.at(i);
            const std::string at = indexed(name, i);
            const std::string type = type_of(block, at);
            if (type == "text") {
                message.content_parts.push_back(text_part(text_of(block, "text", at)));
            } else if (type == "thinking") {
                message.reasoning_content += text_of(block, "thinking", at);
            } else if (type == "tool_use") {
                message.tool_calls.push_back(read_call(block, at));
            } else if (type != "redacted_thinking") {
                refuse_block(type, at, "text, thinking or tool_use");
            }
        }
        if (!message.content_parts.empty() || !message.reasoning_content.empty() || !message.tool_calls.empty()) {
            add_message(std::move(message), field);
        }
    }

    common_chat_tool_call read_call(const common_json & block, const std::string & field) {
        common_chat_tool_call call;
        call.id = text_of(block, "id", field);
        call.name = text_of(block, "name", field);
        const std::string input = field + ".input";
        call.arguments = read_arguments(as_object(required(block, "input", field), input), input);
        return call;
    }

    // Text and results of tools, each in a message of its own, in their order.
    void read_turn(const common_json & blocks, const std::string & name, const common_chat_msg & turn,
                   const std::string & field) {
        common_chat_msg text = turn;
        const auto flush = [&] {
            if (!text.content_parts.empty()) {
                add_message(std::move(text), field);
                text = turn;
            }
        };
        for (size_t i = 0; i < blocks.size(); ++i) {
            const common_json & block = blocks.at(i);
            const std::string at = indexed(name, i);
            const std::string type = type_of(block, at);
            if (type == "text") {
                text.content_parts.push_back(text_part(text_of(block, "text", at)));
            } else if (type == "image") {
                text.content_parts.push_back(read_image(block, at));
            } else if (type == "tool_result") {
                flush();
                add_message(read_result(block, at), field);
            } else {
                refuse_block(type, at, "text, image or tool_result");
            }
        }
        flush();
    }

    common_chat_msg read_result(const common_json & block, const std::string & field) {
        common_chat_msg message;
        message.role = "tool";
        message.tool_call_id = text_of(block, "tool_use_id", field);
        if (const common_json * failed = find_field(block, "is_error")) {
            as_bool(*failed, field + ".is_error");  // the text says what went wrong
        }
        const common_json * content = find_field(block, "content");
        if (content == nullptr) {
            return message;
        }
        const std::string name = field + ".content";
        if (content->is_string()) {
            message.content = content->get<std::string>();
            return message;
        }
        if (!content->is_array()) {
            wrong_type(name, "a string or a list of blocks");
        }
        for (size_t i = 0; i < content->size(); ++i) {
            const std::string at = indexed(name, i);
            const std::string type = type_of(content->at(i), at);
            if (type == "image") {
                message.content_parts.push_back(read_image(content->at(i), at));
            } else if (type == "text") {
                message.content_parts.push_back(text_part(text_of(content->at(i), "text", at)));
            } else {
                refuse_block(type, at, "text or image");
            }
        }
        // Text alone is one text: not every template writes parts of a tool's answer.
        if (std::all_of(message.content_parts.begin(), message.content_parts.end(),
                        [](const auto & part) { return part.type == "text"; })) {
            for (const auto & part : message.content_parts) {
                message.content += part.text;
            }
            message.content_parts.clear();
        }
        return message;
    }

    // Of the type that it says it is; a projector looks for itself.
    common_chat_msg_content_part read_image(const common_json & block, const std::string & field) {
        if (!model_.media() || !model_.media()->reads_images()) {
            refuse_block("image", field, "");
        }
        const std::string name = field + ".source";
        const common_json & source = as_object(required(block, "source", field), name);
        const std::string type = type_of(source, name);
        if (type == "base64") {
            const std::string media_type = text_of(source, "media_type", name);
            if (media_type.compare(0, 6, "image/") != 0) {
                throw bad_request("'" + name + ".media_type' must be an image's", name + ".media_type");
            }
            return image_part(model_, read_media(model_, text_of(source, "data", name), name + ".data"), request_);
        }
        if (type == "url") {
            return image_part(model_, read_media(model_, text_of(source, "url", name), name + ".url"), request_);
        }
        throw bad_request("'" + name + ".type' must be base64 or url, but is '" + type + "'", name + ".type");
    }

    const model & model_;
    chat_request & request_;
};

void read_messages(const model & model, const common_json & body, chat_request & request) {
    message_reader reader(model, request);
    if (const common_json * system = find_field(body, "system")) {
        reader.read_system(*system);
    }
    const common_json & messages = as_array(required(body, "messages", ""), "messages");
    for (size_t i = 0; i < messages.size(); ++i) {
        reader.read_message(messages.at(i), indexed("messages", i));
    }
}

void read_tools(const model & model, const common_json & body, chat_request & request) {
    if (const common_json * tools = find_tools(body)) {
        for (size_t i = 0; i < tools->size(); ++i) {
            const std::string field = indexed("tools", i);
            const common_json & tool = as_object(tools->at(i), field);
            const common_json * type = find_field(tool, "type");
            if (type == nullptr || as_string(*type, field + ".type") == "custom") {
                add_function(tool, field, "input_schema", request);
            }
        }
    }
    read_parallel_calls(model, body, request);
    const common_json * choice = find_field(body, "tool_choice");
    if (choice == nullptr) {
        return;
    }
    const std::string type = type_of(*choice, "tool_choice");
    if (type == "tool") {
        choose_function(text_of(*choice, "name", "tool_choice"), request);
    } else if (type == "any" || type == "auto" || type == "none") {
        choose_tools(type == "any" ? "required" : type, request);
    } else {
        throw bad_request("'tool_choice.type' must be auto, any, tool or none, but is '" + type + "'",
                          "tool_choice.type");
    }
    if (const common_json * single = find_field(*choice, "disable_parallel_tool_use")) {
        if (as_bool(*single, "tool_choice.disable_parallel_tool_use")) {
            request.inputs.parallel_tool_calls = false;
        }
    }
}

// {"format":{"type":"json_schema","schema":{...}},"effort":...}; returns the effort, which may be null.
const common_json * read_output_config(const common_json & body, chat_request & request) {
    read_constraint(body, request);
    const common_json * config = find_field(body, "output_config");
    const common_json * effort = nullptr;
    if (config != nullptr) {
        effort = find_field(as_object(*config, "output_config"), "effort");
        if (const common_json * format = find_field(*config, "format")) {
            const std::string field = "output_config.format";
            const std::string type = type_of(*format, field);
            if (type != "json_schema") {
                throw bad_request("'" + field + ".type' must be json_schema, but is '" + type + "'", field + ".type");
            }
            take_schema(required(*format, "schema", field), field + ".schema", request);
        }
    }
    check_constraint(request);
    return effort;
}

void read_budget(const common_json & body, chat_request & request) {
    const common_json * thinking = find_field(body, "thinking");
    if (thinking == nullptr) {
        return;
    }
    const std::string type = type_of(*thinking, "thinking");
    if (type == "disabled") {
        disable_thinking(request);
    } else if (const common_json * budget = find_field(*thinking, "budget_tokens")) {
        request.reasoning.budget =
            static_cast<int32_t>(as_integer(*budget, "thinking.budget_tokens", 0, std::numeric_limits<int32_t>::max()));
    }
}

}  // namespace

chat_request parse_anthropic_request(const model & model, std::string_view body) {
    const common_json parsed = parse_body(body);
    chat_request request = new_chat_request(model);
    read_messages(model, parsed, request);
    read_plain_fields(model, parsed, request);
    request.n_logprobs = -1;  // the answer has no place for them
    request.sampling.n_probs = 0;
    if (find_field(parsed, "max_tokens") == nullptr && request.n_predict < 0) {
        request.n_predict = default_max_tokens;
    }
    if (const common_json * stop = find_field(parsed, "stop_sequences")) {
        take_stop(as_array(*stop, "stop_sequences"), "stop_sequences", request);
    }
    read_tools(model, parsed, request);
    const common_json * effort = read_output_config(parsed, request);
    read_thinking(model, parsed, effort, "output_config.effort", request);
    read_budget(parsed, request);
    read_continuation(model, parsed, request);
    return request;
}

}  // namespace pyllama
