// Tools, and what goes with them.
#include <algorithm>

#include "errors.h"
#include "request_chat.h"

namespace pyllama {

std::string read_arguments(const common_json & arguments, const std::string & field) {
    std::string text = arguments.is_string() ? arguments.get<std::string>() : arguments.dump();
    // Templates that want an object get it parsed from this text.
    check_json_depth(text, request_limits::json_depth, field);
    return text.empty() ? "{}" : text;
}

const common_json * find_tools(const common_json & body) {
    const common_json * tools = find_field(body, "tools");
    if (tools != nullptr && as_array(*tools, "tools").size() > request_limits::n_tools) {
        throw bad_request("'tools' has more than " + std::to_string(request_limits::n_tools) + " entries", "tools");
    }
    return tools;
}

void add_function(const common_json & function, const std::string & field, const char * parameters,
                  chat_request & request) {
    if (!request.inputs.use_jinja) {
        throw bad_request("'tools' needs the server's --jinja flag", "tools");
    }
    common_chat_tool tool;
    tool.name = as_string(required(function, "name", field), field + ".name");
    if (tool.name.empty() || tool.name.size() > 256) {
        throw bad_request("'" + field + ".name' must have 1 to 256 bytes", field + ".name");
    }
    if (const common_json * description = find_field(function, "description")) {
        tool.description = as_string(*description, field + ".description");
    }
    tool.parameters = "{}";
    const std::string inner = field + "." + parameters;
    if (const common_json * schema = find_field(function, parameters)) {
        check_schema(as_object(*schema, inner), inner);
        tool.parameters = schema->dump();
    }
    request.inputs.tools.push_back(std::move(tool));
    request.parameter_fields.push_back(inner);
}

namespace {

void require_tool(chat_request & request) {
    request.inputs.tool_choice = COMMON_CHAT_TOOL_CHOICE_REQUIRED;
    if (request.inputs.tools.empty()) {
        throw bad_request("'tool_choice' requires a tool, but 'tools' is empty", "tool_choice");
    }
}

}  // namespace

void choose_tools(const std::string & choice, chat_request & request) {
    if (choice == "required") {
        require_tool(request);
    } else if (choice == "auto" || choice == "none") {
        request.inputs.tool_choice = common_chat_tool_choice_parse_oaicompat(choice);
    } else {
        throw bad_request("'tool_choice' must be none, auto, required or a function, but is '" + choice + "'",
                          "tool_choice");
    }
}

void choose_function(const std::string & name, chat_request & request) {
    auto & tools = request.inputs.tools;
    const auto wanted =
        std::find_if(tools.begin(), tools.end(), [&](const common_chat_tool & tool) { return tool.name == name; });
    if (wanted == tools.end()) {
        throw bad_request("'tool_choice' names a function that is not in 'tools': '" + name + "'", "tool_choice");
    }
    const auto index = static_cast<size_t>(wanted - tools.begin());
    tools = {common_chat_tool(*wanted)};
    request.parameter_fields = {std::string(request.parameter_fields[index])};
    require_tool(request);
}

void read_parallel_calls(const model & model, const common_json & body, chat_request & request) {
    auto & inputs = request.inputs;
    inputs.parallel_tool_calls = common_chat_templates_get_caps(model.templates()).at("supports_parallel_tool_calls");
    if (const common_json * parallel = find_field(body, "parallel_tool_calls")) {
        inputs.parallel_tool_calls = as_bool(*parallel, "parallel_tool_calls");
    }
}

void check_constraint(chat_request & request) {
    if (!request.grammar.empty() && !request.json_schema.empty()) {
        throw bad_request("'grammar' cannot be combined with '" + request.schema_field + "'", "grammar");
    }
    const auto & inputs = request.inputs;
    if (!request.grammar.empty() && !inputs.tools.empty() && inputs.tool_choice != COMMON_CHAT_TOOL_CHOICE_NONE) {
        throw bad_request("'grammar' cannot be combined with 'tools'", "grammar");
    }
    request.inputs.json_schema = request.json_schema;
}

}  // namespace pyllama
