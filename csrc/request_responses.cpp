#include "request_responses.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "continuation.h"
#include "errors.h"
#include "media_source.h"
#include "request_chat.h"

namespace pyllama {

namespace {

// Of one member that the answer repeats: it does so in three events of a stream.
constexpr size_t repeated_bytes = size_t{64} * 1024;

std::string text_of(const common_json & item, const char * member, const std::string & field) {
    return as_string(required(item, member, field), field + "." + member);
}

// The id of a call as the template knows it: answers bear this prefix.
std::string call_id_of(const common_json & item, const std::string & field) {
    const std::string id = text_of(item, "call_id", field);
    return id.compare(0, 5, "call_") == 0 ? id.substr(5) : id;
}

// Adds the messages of one body.
class item_reader {
  public:
    item_reader(const model & model, chat_request & request) : model_(model), request_(request) {}

    void add_text(const char * role, std::string text, const std::string & field) {
        common_chat_msg message;
        message.role = role;
        message.content = std::move(text);
        add_message(std::move(message), field);
    }

    void read_item(const common_json & item, const std::string & field) {
        as_object(item, field);
        const common_json * type = find_field(item, "type");
        const std::string kind = type != nullptr ? as_string(*type, field + ".type") : "message";
        if (kind == "message") {
            read_message(item, field);
        } else if (kind == "reasoning") {
            assistant(field).reasoning_content += read_reasoning(item, field);
        } else if (kind == "function_call") {
            common_chat_tool_call call;
            call.id = call_id_of(item, field);
            call.name = text_of(item, "name", field);
            call.arguments = read_arguments(required(item, "arguments", field), field + ".arguments");
            assistant(field).tool_calls.push_back(std::move(call));
        } else if (kind == "function_call_output") {
            common_chat_msg message;
            message.role = "tool";
            message.tool_call_id = call_id_of(item, field);
            read_content(required(item, "output", field), field + ".output", message);
            add_message(std::move(message), field);
        } else if (kind == "item_reference") {
            throw bad_request("'" + field + "' refers to a stored item, and this server stores none: send the item",
                              field);
        } else {
            throw bad_request("'" + field +
                                  ".type' must be message, reasoning, function_call or function_call_output, but is '" +
                                  kind + "'",
                              field + ".type");
        }
    }

  private:
    void add_message(common_chat_msg && message, const std::string & field) {
        request_.inputs.messages.push_back(std::move(message));
        request_.fields.push_back({field, field, field, field});
    }

    // What the model has said since the last turn of somebody else.
    common_chat_msg & assistant(const std::string & field) {
        auto & messages = request_.inputs.messages;
        if (messages.empty() || messages.back().role != "assistant") {
            add_text("assistant", {}, field);
        }
        return messages.back();
    }

    void read_message(const common_json & item, const std::string & field) {
        const std::string role = text_of(item, "role", field);
        const common_json & content = required(item, "content", field);
        common_chat_msg message;
        message.role = role;
        if (role != "user" && role != "assistant" && role != "system" && role != "developer") {
            throw bad_request(
                "'" + field + ".role' must be user, assistant, system or developer, but is '" + role + "'",
                field + ".role");
        }
        read_content(content, field + ".content", message);
        if (role == "assistant") {
            common_chat_msg & open = assistant(field);
            open.content += message.content;
            for (const auto & part : message.content_parts) {
                open.content += part.text;
            }
        } else {
            add_message(std::move(message), field);
        }
    }

    void read_content(const common_json & content, const std::string & name, common_chat_msg & message) {
        if (content.is_string()) {
            message.content = content.get<std::string>();
            return;
        }
        if (!content.is_array()) {
            wrong_type(name, "a string or a list of parts");
        }
        for (size_t i = 0; i < content.size(); ++i) {
            const std::string field = indexed(name, i);
            const common_json & part = as_object(content.at(i), field);
            const std::string type = text_of(part, "type", field);
            if (type == "input_image" && message.role != "assistant") {
                message.content_parts.push_back(read_image(part, field));
                continue;
            }
            refuse_media(type, field);
            if (type == "input_file") {
                throw bad_request("'" + field + "' is of type 'input_file', which is not supported: send its text",
                                  field);
            }
            if (type != "input_text" && type != "output_text" && type != "text" && type != "refusal") {
                throw bad_request(
                    "'" + field + ".type' must be input_text, output_text or refusal, but is '" + type + "'",
                    field + ".type");
            }
            message.content_parts.push_back(text_part(text_of(part, type == "refusal" ? "refusal" : "text", field)));
        }
    }

    common_chat_msg_content_part read_image(const common_json & part, const std::string & field) {
        image_projector(model_, "input_image", field);
        if (find_field(part, "file_id") != nullptr) {
            throw bad_request("'" + field + ".file_id' names a stored file, and this server stores none",
                              field + ".file_id");
        }
        return image_part(model_, read_media(model_, text_of(part, "image_url", field), field + ".image_url"),
                          request_);
    }

    // The text itself, else what was told of it.
    std::string read_reasoning(const common_json & item, const std::string & field) {
        std::string text;
        for (const char * member : {"content", "summary"}) {
            const common_json * parts = find_field(item, member);
            if (parts == nullptr || !text.empty()) {
                continue;
            }
            const std::string name = field + "." + member;
            as_array(*parts, name);
            for (size_t i = 0; i < parts->size(); ++i) {
                text += text_of(as_object(parts->at(i), indexed(name, i)), "text", indexed(name, i));
            }
        }
        return text;
    }

    const model & model_;
    chat_request & request_;
};

void check_stored(const common_json & body) {
    for (const char * name : {"previous_response_id", "conversation", "prompt"}) {
        const common_json * value = find_field(body, name);
        if (value != nullptr && !(value->is_string() && value->get<std::string>().empty())) {
            throw bad_request(std::string("'") + name +
                                  "' is not supported: this server stores nothing, so send the whole conversation in "
                                  "'input'",
                              name);
        }
    }
    if (const common_json * store = find_field(body, "store")) {
        as_bool(*store, "store");  // the answer says that it is not stored
    }
    if (const common_json * metadata = find_field(body, "metadata")) {
        as_object(*metadata, "metadata");  // it is repeated
    }
}

void read_input(const model & model, const common_json & body, chat_request & request) {
    request.messages_field = "input";
    item_reader reader(model, request);
    if (const common_json * instructions = find_field(body, "instructions")) {
        reader.add_text("system", as_string(*instructions, "instructions"), "instructions");
    }
    const common_json & input = required(body, "input", "");
    if (input.is_string()) {
        reader.add_text("user", input.get<std::string>(), "input");
        return;
    }
    if (!input.is_array()) {
        wrong_type("input", "a string or a list of items");
    }
    if (input.empty()) {
        throw bad_request("'input' must not be empty", "input");
    }
    for (size_t i = 0; i < input.size(); ++i) {
        reader.read_item(input.at(i), indexed("input", i));
    }
}

bool is_function(const common_json & value, const std::string & field) {
    return text_of(as_object(value, field), "type", field) == "function";
}

void read_tools(const model & model, const common_json & body, chat_request & request) {
    if (const common_json * tools = find_tools(body)) {
        for (size_t i = 0; i < tools->size(); ++i) {
            const std::string field = indexed("tools", i);
            if (is_function(tools->at(i), field)) {
                add_function(tools->at(i), field, "parameters", request);
            }
        }
    }
    if (const common_json * choice = find_field(body, "tool_choice")) {
        if (choice->is_string()) {
            choose_tools(choice->get<std::string>(), request);
        } else if (is_function(*choice, "tool_choice")) {
            choose_function(text_of(*choice, "name", "tool_choice"), request);
        } else {
            throw bad_request("'tool_choice.type' must be function", "tool_choice.type");
        }
    }
    read_parallel_calls(model, body, request);
}

void read_text_format(const common_json & body, chat_request & request) {
    read_constraint(body, request);
    const common_json * text = find_field(body, "text");
    const common_json * format = text != nullptr ? find_field(as_object(*text, "text"), "format") : nullptr;
    if (format != nullptr) {
        const std::string type = text_of(as_object(*format, "text.format"), "type", "text.format");
        if (type == "json_schema") {
            take_schema(required(*format, "schema", "text.format"), "text.format.schema", request);
        } else if (type == "json_object") {
            take_schema(common_json::object(), "text.format", request);
        } else if (type != "text") {
            throw bad_request("'text.format.type' must be text, json_object or json_schema, but is '" + type + "'",
                              "text.format.type");
        }
    }
    check_constraint(request);
}

// Logprobs are asked for by name, or by how many alternatives there should be.
void read_logprobs(const common_json & body, chat_request & request) {
    request.n_logprobs = -1;
    if (const common_json * include = find_field(body, "include")) {
        for (const common_json & name : as_array(*include, "include")) {
            if (as_string(name, "include") == "message.output_text.logprobs") {
                request.n_logprobs = 0;
            }
        }
    }
    if (const common_json * top = find_field(body, "top_logprobs")) {
        const auto n = static_cast<int32_t>(as_integer(*top, "top_logprobs", 0, request_limits::n_logprobs));
        request.n_logprobs = n > 0 ? n : request.n_logprobs;
    }
    request.sampling.n_probs = std::max(request.n_logprobs, 0);
}

const common_json * find_effort(const common_json & body) {
    const common_json * reasoning = find_field(body, "reasoning");
    return reasoning != nullptr ? find_field(as_object(*reasoning, "reasoning"), "effort") : nullptr;
}

// ,"instructions":...,"metadata":...: as the client sent them, with OpenAI's defaults. What is large is not repeated.
std::string repeat_members(const common_json & body) {
    static constexpr std::pair<const char *, const char *> members[] = {
        {"instructions", "null"},        {"max_output_tokens", "null"},
        {"max_tool_calls", "null"},      {"metadata", "{}"},
        {"parallel_tool_calls", "true"}, {"reasoning", R"({"effort":null,"summary":null})"},
        {"safety_identifier", "null"},   {"service_tier", R"("default")"},
        {"temperature", "null"},         {"text", R"({"format":{"type":"text"}})"},
        {"tool_choice", R"("auto")"},    {"tools", "[]"},
        {"top_logprobs", "0"},           {"top_p", "null"},
        {"truncation", R"("disabled")"}, {"user", "null"},
    };
    std::string out = R"(,"previous_response_id":null,"store":false)";
    for (const auto & [name, otherwise] : members) {
        const common_json * value = find_field(body, name);
        const std::string text = value != nullptr ? value->dump() : otherwise;
        out.append(",\"").append(name).append("\":").append(text.size() <= repeated_bytes ? text : otherwise);
    }
    return out;
}

}  // namespace

chat_request parse_responses_request(const model & model, std::string_view body) {
    const common_json parsed = parse_body(body);
    check_stored(parsed);
    chat_request request = new_chat_request(model);
    read_input(model, parsed, request);
    read_plain_fields(model, parsed, request);
    if (const common_json * most = find_field(parsed, "max_output_tokens")) {
        request.n_predict =
            static_cast<int32_t>(as_integer(*most, "max_output_tokens", -1, std::numeric_limits<int32_t>::max()));
    }
    if (const common_json * background = find_field(parsed, "background")) {
        request.background = as_bool(*background, "background");
    }
    read_logprobs(parsed, request);
    read_tools(model, parsed, request);
    read_text_format(parsed, request);
    read_thinking(model, parsed, find_effort(parsed), "reasoning.effort", request);
    read_continuation(model, parsed, request);
    request.repeated = repeat_members(parsed);
    return request;
}

}  // namespace pyllama
