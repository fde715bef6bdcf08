#include "control_json.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "errors.h"
#include "json_text.h"
#include "request.h"
#include "request_json.h"

namespace pyllama {

namespace {

constexpr const char * state_names[] = {"queued", "prefill", "reasoning", "content", "finished"};

// As llama-server reads it: of another type is as good as absent.
std::string text_member(const common_json & body, const char * name) {
    const common_json * value = find_field(body, name);
    return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

control_action parse_action(const common_json & body) {
    const std::string name = text_member(body, "action");
    const auto found = std::find(std::begin(control_action_names), std::end(control_action_names), name);
    if (found == std::end(control_action_names)) {
        throw bad_request("unknown control action", "action");
    }
    return static_cast<control_action>(found - std::begin(control_action_names));
}

// "tokens": 12, "+12" or null.
budget_change parse_budget(const common_json & body) {
    constexpr int32_t most = std::numeric_limits<int32_t>::max();
    if (!body.contains("tokens")) {
        throw bad_request("'tokens' is required", "tokens");
    }
    const common_json & value = body.at("tokens");
    if (value.is_null()) {
        return {};
    }
    if (!value.is_string()) {
        return {false, static_cast<int32_t>(as_integer(value, "tokens", -1, most))};
    }
    const auto text = value.get<std::string>();
    const bool digits = text.size() > 1 && text.size() <= 11 && text[0] == '+' &&
                        text.find_first_not_of("0123456789", 1) == std::string::npos;
    const int64_t more = digits ? std::stoll(text) : -1;
    if (more < 0 || more > most) {
        throw bad_request("'tokens' must be an integer, null or a string such as \"+32\"", "tokens");
    }
    return {true, static_cast<int32_t>(more)};
}

std::string parse_text(const common_json & body) {
    std::string text = as_string(required(body, "text", ""), "text");
    if (text.empty() || text.size() > request_limits::injected_bytes) {
        throw bad_request("'text' must have between 1 and " + std::to_string(request_limits::injected_bytes) +
                              " bytes, but has " + std::to_string(text.size()),
                          "text");
    }
    return text;
}

void append_bool(std::string & out, const char * member, bool value) {
    out.append(member).append(value ? "true" : "false");
}

void append_facts(std::string & out, const control_result & result) {
    append_bool(out, "\"applied\":", result.applied);
    out.append(",\"state\":\"").append(state_names[static_cast<size_t>(*result.state)]).append("\"");
    if (result.queue_position >= 0) {
        out += ",\"queue_position\":";
        append_integer(out, result.queue_position);
    }
    append_bool(out, ",\"paused\":", result.paused);
    out += ",\"position\":";
    if (result.position >= 0) {
        append_integer(out, result.position);
    } else {
        out += "null";
    }
    out += ",\"event_id\":null";
}

void append_result(std::string & out, const control_result & result, bool in_process) {
    append_bool(out, "\"success\":", result.success);
    if (!result.message.empty()) {
        out += ",\"message\":";
        append_quoted(out, result.message);
    }
    if (result.state && (in_process || !result.brief)) {
        out += ",";
        append_facts(out, result);
    }
}

}  // namespace

control_request parse_control(std::string_view body, bool in_process) {
    const common_json parsed = parse_body(body);
    control_request request;
    request.id = text_member(parsed, "id");
    if (request.id.empty() && !in_process) {
        throw bad_request("missing completion id", "id");
    }
    request.command.action = parse_action(parsed);
    if (request.command.action == control_action::reasoning_budget) {
        request.command.budget = parse_budget(parsed);
    }
    if (request.command.action == control_action::sampling) {
        request.fields = std::make_shared<common_json>(parsed);
    }
    if (request.command.action == control_action::inject) {
        request.text = parse_text(parsed);
    }
    if (request.command.action == control_action::pause) {
        const common_json * park = find_field(parsed, "park");
        request.command.park = park != nullptr && as_bool(*park, "park");
    }
    if (const common_json * choice = find_field(parsed, "choice")) {
        request.choice = static_cast<int32_t>(as_integer(*choice, "choice", 0, 127));
    }
    return request;
}

std::string control_answer(const std::vector<control_result> & results, bool in_process) {
    if (std::all_of(results.begin(), results.end(), [](const control_result & r) { return r.busy; })) {
        throw error(error_kind::busy, results.front().message);
    }
    // One choice that it reached is a success; the first such one is shown.
    const auto shown = std::find_if(results.begin(), results.end(), [](const control_result & r) { return r.success; });
    std::string out = "{";
    append_result(out, shown != results.end() ? *shown : results.front(), in_process);
    if (results.size() > 1) {
        out += ",\"choices\":[";
        for (size_t i = 0; i < results.size(); ++i) {
            out += i > 0 ? ",{" : "{";
            append_result(out, results[i], in_process);
            out += '}';
        }
        out += ']';
    }
    out += '}';
    return out;
}

void append_control_note(std::string & out, const control_note & note) {
    out.append("{\"action\":\"").append(note.name()).append("\",");
    append_facts(out, note.result);
    if (!note.result.message.empty()) {
        out += ",\"message\":";
        append_quoted(out, note.result.message);
    }
    out += '}';
}

}  // namespace pyllama
