#include "request.h"

#include <algorithm>

#include "continuation.h"
#include "errors.h"
#include "json_text.h"
#include "request_fields.h"

namespace pyllama {

namespace {

common_chat_msg_content_part parse_part(const common_json & part, const std::string & field) {
    as_object(part, field);
    const std::string type = as_string(required(part, "type", field), field + ".type");
    if (type == "image_url" || type == "input_image" || type == "input_audio" || type == "video_url") {
        throw bad_request("'" + field + "' is of type '" + type + "', and this model reads text only", field);
    }
    if (type != "text") {
        throw bad_request("'" + field + ".type' must be 'text', but is '" + type + "'", field + ".type");
    }
    common_chat_msg_content_part result;
    result.type = type;
    result.text = as_string(required(part, "text", field), field + ".text");
    return result;
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
    const common_json & arguments = required(function, "arguments", inner);
    result.arguments = arguments.is_string() ? arguments.get<std::string>() : arguments.dump();
    // Templates that want an object get it parsed from this text.
    check_json_depth(result.arguments, request_limits::json_depth, inner + ".arguments");
    if (result.arguments.empty()) {
        result.arguments = "{}";
    }
    if (const common_json * id = find_field(call, "id")) {
        result.id = as_string(*id, field + ".id");
    }
    return result;
}

common_chat_msg parse_message(const common_json & message, const std::string & field) {
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
                result.content_parts.push_back(parse_part(content->at(i), indexed(name, i)));
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

void read_messages(const common_json & body, chat_request & request) {
    const common_json & messages = as_array(required(body, "messages", ""), "messages");
    if (messages.empty()) {
        throw bad_request("'messages' must not be empty", "messages");
    }
    request.inputs.messages.reserve(messages.size());
    for (size_t i = 0; i < messages.size(); ++i) {
        request.inputs.messages.push_back(parse_message(messages.at(i), indexed("messages", i)));
    }
}

common_chat_tool parse_tool(const common_json & tool, const std::string & field) {
    as_object(tool, field);
    if (as_string(required(tool, "type", field), field + ".type") != "function") {
        throw bad_request("'" + field + ".type' must be 'function'", field + ".type");
    }
    const std::string inner = field + ".function";
    const common_json & function = as_object(required(tool, "function", field), inner);
    common_chat_tool result;
    result.name = as_string(required(function, "name", inner), inner + ".name");
    if (result.name.empty() || result.name.size() > 256) {
        throw bad_request("'" + inner + ".name' must have 1 to 256 bytes", inner + ".name");
    }
    if (const common_json * description = find_field(function, "description")) {
        result.description = as_string(*description, inner + ".description");
    }
    result.parameters = "{}";
    if (const common_json * parameters = find_field(function, "parameters")) {
        check_schema(as_object(*parameters, inner + ".parameters"), inner + ".parameters");
        result.parameters = parameters->dump();
    }
    return result;
}

void read_tool_choice(const common_json & choice, chat_request & request) {
    auto & inputs = request.inputs;
    if (choice.is_string()) {
        const auto name = choice.get<std::string>();
        if (name != "auto" && name != "none" && name != "required") {
            throw bad_request("'tool_choice' must be none, auto, required or a function, but is '" + name + "'",
                              "tool_choice");
        }
        inputs.tool_choice = common_chat_tool_choice_parse_oaicompat(name);
    } else {
        const common_json & function =
            as_object(required(as_object(choice, "tool_choice"), "function", "tool_choice"), "tool_choice.function");
        const std::string name =
            as_string(required(function, "name", "tool_choice.function"), "tool_choice.function.name");
        const auto wanted = std::find_if(inputs.tools.begin(), inputs.tools.end(),
                                         [&](const common_chat_tool & tool) { return tool.name == name; });
        if (wanted == inputs.tools.end()) {
            throw bad_request("'tool_choice' names a function that is not in 'tools': '" + name + "'", "tool_choice");
        }
        inputs.tools = {common_chat_tool(*wanted)};
        inputs.tool_choice = COMMON_CHAT_TOOL_CHOICE_REQUIRED;
    }
    if (inputs.tool_choice == COMMON_CHAT_TOOL_CHOICE_REQUIRED && inputs.tools.empty()) {
        throw bad_request("'tool_choice' requires a tool, but 'tools' is empty", "tool_choice");
    }
}

void read_tools(const model & model, const common_json & body, chat_request & request) {
    auto & inputs = request.inputs;
    if (const common_json * tools = find_field(body, "tools")) {
        if (as_array(*tools, "tools").size() > request_limits::n_tools) {
            throw bad_request("'tools' has more than " + std::to_string(request_limits::n_tools) + " entries", "tools");
        }
        for (size_t i = 0; i < tools->size(); ++i) {
            inputs.tools.push_back(parse_tool(tools->at(i), indexed("tools", i)));
        }
        if (!inputs.tools.empty() && !inputs.use_jinja) {
            throw bad_request("'tools' needs the server's --jinja flag", "tools");
        }
    }
    if (const common_json * choice = find_field(body, "tool_choice")) {
        read_tool_choice(*choice, request);
    }
    inputs.parallel_tool_calls = common_chat_templates_get_caps(model.templates()).at("supports_parallel_tool_calls");
    if (const common_json * parallel = find_field(body, "parallel_tool_calls")) {
        inputs.parallel_tool_calls = as_bool(*parallel, "parallel_tool_calls");
    }
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
    if (!request.grammar.empty() && !request.json_schema.empty()) {
        throw bad_request("'grammar' cannot be combined with '" + request.schema_field + "'", "grammar");
    }
    const auto & inputs = request.inputs;
    if (!request.grammar.empty() && !inputs.tools.empty() && inputs.tool_choice != COMMON_CHAT_TOOL_CHOICE_NONE) {
        throw bad_request("'grammar' cannot be combined with 'tools'", "grammar");
    }
    request.inputs.json_schema = request.json_schema;
}

void read_thinking(const model & model, const common_json & body, chat_request & request) {
    auto & inputs = request.inputs;
    inputs.reasoning_format = model.params().reasoning_format;
    if (const common_json * format = find_field(body, "reasoning_format")) {
        const std::string name = as_string(*format, "reasoning_format");
        try {
            inputs.reasoning_format = common_reasoning_format_from_name(name);
        } catch (const std::exception &) {
            throw bad_request(
                "'reasoning_format' must be none, auto, deepseek or deepseek-legacy, but is '" + name + "'",
                "reasoning_format");
        }
    }
    inputs.enable_thinking = model.thinks();
    inputs.chat_template_kwargs = model.params().default_template_kwargs;
    if (const common_json * kwargs = find_field(body, "chat_template_kwargs")) {
        for (const auto & entry : as_object(*kwargs, "chat_template_kwargs").items()) {
            inputs.chat_template_kwargs[entry.k] = entry.v.dump();
        }
    }
    const auto thinking = inputs.chat_template_kwargs.find("enable_thinking");
    if (thinking != inputs.chat_template_kwargs.end()) {
        if (thinking->second != "true" && thinking->second != "false") {
            throw bad_request("'chat_template_kwargs.enable_thinking' must be true or false",
                              "chat_template_kwargs.enable_thinking");
        }
        inputs.enable_thinking = thinking->second == "true";
    }
    if (const common_json * effort = find_field(body, "reasoning_effort")) {
        const std::string level = as_string(*effort, "reasoning_effort");
        if (level == "none") {
            inputs.enable_thinking = false;
            inputs.chat_template_kwargs.erase("reasoning_effort");
            inputs.chat_template_kwargs.erase("enable_thinking");
        } else if (!level.empty()) {
            inputs.chat_template_kwargs["reasoning_effort"] = json_quoted(level);
        }
    }
}

}  // namespace

chat_request parse_chat_request(const model & model, std::string_view body) {
    const common_json parsed = parse_body(body);
    chat_request request;
    request.inputs.use_jinja = model.params().use_jinja;
    request.inputs.force_pure_content = model.params().force_pure_content_parser;
    read_messages(parsed, request);
    read_plain_fields(model, parsed, request);
    read_chat_logprobs(parsed, request);
    read_tools(model, parsed, request);
    read_output_format(parsed, request);
    read_thinking(model, parsed, request);
    read_continuation(model, parsed, request);
    return request;
}

}  // namespace pyllama
