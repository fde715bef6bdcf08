#include "request.h"

#include <algorithm>

#include "continuation.h"
#include "errors.h"
#include "media_source.h"
#include "projector.h"
#include "request_chat.h"

namespace pyllama {

namespace {

common_chat_msg_content_part parse_part(const model & model, const common_json & part, const std::string & field,
                                        chat_request & request) {
    as_object(part, field);
    const std::string type = as_string(required(part, "type", field), field + ".type");
    if (type == "image_url") {
        return image_part(model, read_image_url(model, part, field), request);
    }
    refuse_media(type, field);
    if (type != "text") {
        throw bad_request("'" + field + ".type' must be 'text', but is '" + type + "'", field + ".type");
    }
    return text_part(as_string(required(part, "text", field), field + ".text"));
}

common_chat_tool_call parse_tool_call(const common_json & call, const std::string & field) {
    as_object(call, field);
    if (const common_json * type = find_field(call, "type")) {
        if (as_string(*type, field + ".type") != "function") {
            throw bad_request("'" + field + ".type' must be 'function'", field + ".type");
        }
    }
    const std::string inner = field + ".function";
    const common_json & function = as_object(required(call, "function", field), inner);
    common_chat_tool_call result;
    result.name = as_string(required(function, "name", inner), inner + ".name");
    result.arguments = read_arguments(required(function, "arguments", inner), inner + ".arguments");
    if (const common_json * id = find_field(call, "id")) {
        result.id = as_string(*id, field + ".id");
    }
    return result;
}

common_chat_msg parse_message(const model & model, const common_json & message, const std::string & field,
                              chat_request & request) {
    as_object(message, field);
    common_chat_msg result;
    result.role = as_string(required(message, "role", field), field + ".role");
    static constexpr const char * roles[] = {"system", "developer", "user", "assistant", "tool", "function"};
    if (std::find(std::begin(roles), std::end(roles), result.role) == std::end(roles)) {
        throw bad_request(
            "'" + field + ".role' must be system, developer, user, assistant or tool, but is '" + result.role + "'",
            field + ".role");
    }
    const bool from_assistant = result.role == "assistant";
    if (const common_json * content = find_field(message, "content")) {
        const std::string name = field + ".content";
        if (content->is_string()) {
            result.content = content->get<std::string>();
        } else if (content->is_array()) {
            for (size_t i = 0; i < content->size(); ++i) {
                result.content_parts.push_back(parse_part(model, content->at(i), indexed(name, i), request));
            }
        } else {
            throw bad_request("'" + name + "' must be a string or a list of parts", name);
        }
    } else if (!from_assistant) {
        throw bad_request("'" + field + ".content' is required", field + ".content");
    }
    if (const common_json * reasoning = find_field(message, "reasoning_content")) {
        result.reasoning_content = as_string(*reasoning, field + ".reasoning_content");
    }
    if (const common_json * calls = find_field(message, "tool_calls")) {
        const std::string name = field + ".tool_calls";
        if (!from_assistant) {
            throw bad_request("'" + name + "' belongs to assistant messages only", name);
        }
        as_array(*calls, name);
        for (size_t i = 0; i < calls->size(); ++i) {
            result.tool_calls.push_back(parse_tool_call(calls->at(i), indexed(name, i)));
        }
    }
    if (from_assistant && result.tool_calls.empty() && result.reasoning_content.empty() &&
        !message.contains("content")) {
        throw bad_request("'" + field + "' needs 'content' or 'tool_calls'", field);
    }
    if (const common_json * name = find_field(message, "name")) {
        result.tool_name = as_string(*name, field + ".name");
    }
    if (const common_json * id = find_field(message, "tool_call_id")) {
        result.tool_call_id = as_string(*id, field + ".tool_call_id");
    }
    return result;
}

void read_messages(const model & model, const common_json & body, chat_request & request) {
    const common_json & messages = as_array(required(body, "messages", ""), "messages");
    if (messages.empty()) {
        throw bad_request("'messages' must not be empty", "messages");
    }
    request.inputs.messages.reserve(messages.size());
    for (size_t i = 0; i < messages.size(); ++i) {
        const std::string field = indexed("messages", i);
        request.inputs.messages.push_back(parse_message(model, messages.at(i), field, request));
        request.fields.push_back({field, field + ".content", field + ".reasoning_content", field + ".tool_calls"});
    }
}

void add_tool(const common_json & tool, const std::string & field, chat_request & request) {
    if (as_string(required(as_object(tool, field), "type", field), field + ".type") != "function") {
        throw bad_request("'" + field + ".type' must be 'function'", field + ".type");
    }
    const std::string inner = field + ".function";
    add_function(as_object(required(tool, "function", field), inner), inner, "parameters", request);
}

void read_tool_choice(const common_json & choice, chat_request & request) {
    if (choice.is_string()) {
        choose_tools(choice.get<std::string>(), request);
        return;
    }
    const common_json & function =
        as_object(required(as_object(choice, "tool_choice"), "function", "tool_choice"), "tool_choice.function");
    choose_function(as_string(required(function, "name", "tool_choice.function"), "tool_choice.function.name"),
                    request);
}

void read_tools(const model & model, const common_json & body, chat_request & request) {
    if (const common_json * tools = find_tools(body)) {
        for (size_t i = 0; i < tools->size(); ++i) {
            add_tool(tools->at(i), indexed("tools", i), request);
        }
    }
    if (const common_json * choice = find_field(body, "tool_choice")) {
        read_tool_choice(*choice, request);
    }
    read_parallel_calls(model, body, request);
    if (const common_json * parse = find_field(body, "parse_tool_calls")) {
        request.parse_tool_calls = as_bool(*parse, "parse_tool_calls");
    }
}

void read_output_format(const common_json & body, chat_request & request) {
    read_constraint(body, request);
    if (const common_json * format = find_field(body, "response_format")) {
        const std::string type = as_string(required(as_object(*format, "response_format"), "type", "response_format"),
                                           "response_format.type");
        if (type == "json_object") {
            const common_json * schema = find_field(*format, "schema");
            if (schema != nullptr) {
                take_schema(*schema, "response_format.schema", request);
            } else if (request.json_schema.empty()) {
                take_schema(common_json::object(), "response_format", request);
            }
        } else if (type == "json_schema") {
            const common_json & wrapper =
                as_object(required(*format, "json_schema", "response_format"), "response_format.json_schema");
            const common_json * schema = find_field(wrapper, "schema");
            take_schema(schema != nullptr ? *schema : common_json::object(), "response_format.json_schema.schema",
                        request);
        } else if (type != "text") {
            throw bad_request("'response_format.type' must be text, json_object or json_schema, but is '" + type + "'",
                              "response_format.type");
        }
    }
    check_constraint(request);
}

}  // namespace

chat_request new_chat_request(const model & model) {
    chat_request request;
    request.inputs.use_jinja = model.params().use_jinja;
    request.inputs.force_pure_content = model.params().force_pure_content_parser;
    return request;
}

common_chat_msg_content_part text_part(std::string text) {
    common_chat_msg_content_part part;
    part.type = "text";
    part.text = std::move(text);
    return part;
}

void refuse_media(const std::string & type, const std::string & field) {
    static constexpr const char * media[] = {"image_url", "input_image", "image", "input_audio", "video_url"};
    if (std::find(std::begin(media), std::end(media), type) != std::end(media)) {
        throw bad_request("'" + field + "' is of type '" + type + "', and this model reads text only", field);
    }
}

common_chat_msg_content_part image_part(const model & model, media_file file, chat_request & request) {
    add_media(std::move(file), request.media);
    common_chat_msg_content_part part;
    part.type = "media_marker";
    part.text = model.media()->marker();
    return part;
}

chat_request parse_chat_request(const model & model, std::string_view body) {
    const common_json parsed = parse_body(body);
    chat_request request = new_chat_request(model);
    read_messages(model, parsed, request);
    read_plain_fields(model, parsed, request);
    read_chat_logprobs(parsed, request);
    read_tools(model, parsed, request);
    read_output_format(parsed, request);
    read_thinking(model, parsed, find_field(parsed, "reasoning_effort"), "reasoning_effort", request);
    read_continuation(model, parsed, request);
    return request;
}

}  // namespace pyllama
