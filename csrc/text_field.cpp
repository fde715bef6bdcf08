#include "text_field.h"

#include <algorithm>
#include <string_view>
#include <variant>

#include "chat-peg-parser.h"
#include "json.h"
#include "json_text.h"

namespace pyllama {

namespace {

// Whether what `id` reads is any JSON value.
bool is_json(const common_peg_arena & parser, common_peg_parser_id id) {
    static const std::string json = "json-value";
    const auto & node = parser.get(id);
    if (const auto * rule = std::get_if<common_peg_rule_parser>(&node)) {
        return rule->name == json || is_json(parser, rule->child);
    }
    if (const auto * reference = std::get_if<common_peg_ref_parser>(&node)) {
        return reference->name == json ||
               (parser.has_rule(reference->name) && is_json(parser, parser.get_rule(reference->name)));
    }
    if (const auto * schema = std::get_if<common_peg_schema_parser>(&node)) {
        return is_json(parser, schema->child);
    }
    if (const auto * atomic = std::get_if<common_peg_atomic_parser>(&node)) {
        return is_json(parser, atomic->child);
    }
    return false;
}

constexpr std::string_view short_escapes = "\"\\/bfnrt";

bool is_hex(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

// The escape sequence at the start of `text`: its length, 0 when it is not whole yet, and npos when it is none.
size_t escape_length(std::string_view text) {
    if (text.size() < 2) {
        return 0;
    }
    if (text[1] != 'u') {
        return short_escapes.find(text[1]) != std::string_view::npos ? 2 : std::string_view::npos;
    }
    const std::string_view digits = text.substr(2, 4);
    if (!std::all_of(digits.begin(), digits.end(), is_hex)) {
        return std::string_view::npos;
    }
    return digits.size() == 4 ? 6 : 0;
}

// Collects the delimiters of the rule that reads the end of what `id` reads. False when it ends in another way.
bool collect(const common_peg_arena & parser, common_peg_parser_id id, std::vector<std::string> & delimiters) {
    const auto & node = parser.get(id);
    if (const auto * until = std::get_if<common_peg_until_parser>(&node)) {
        delimiters.insert(delimiters.end(), until->delimiters.begin(), until->delimiters.end());
        return true;
    }
    if (const auto * rule = std::get_if<common_peg_rule_parser>(&node)) {
        return collect(parser, rule->child, delimiters);
    }
    if (const auto * reference = std::get_if<common_peg_ref_parser>(&node)) {
        return parser.has_rule(reference->name) && collect(parser, parser.get_rule(reference->name), delimiters);
    }
    if (const auto * wrapped = std::get_if<common_peg_ac_parser>(&node)) {
        return collect(parser, wrapped->child, delimiters);
    }
    if (const auto * sequence = std::get_if<common_peg_sequence_parser>(&node)) {
        // Before the end there may be a look at what comes, and one character: "not the marker, any, until the marker".
        const auto & children = sequence->children;
        return !children.empty() && std::all_of(children.begin(), children.end() - 1, [&](common_peg_parser_id child) {
            const auto & head = parser.get(child);
            return std::holds_alternative<common_peg_not_parser>(head) ||
                   std::holds_alternative<common_peg_and_parser>(head) ||
                   std::holds_alternative<common_peg_any_parser>(head) ||
                   std::holds_alternative<common_peg_epsilon_parser>(head);
        }) && collect(parser, children.back(), delimiters);
    }
    return false;
}

enum class match { none, partial, whole };

match match_at(std::string_view text, size_t at, const std::vector<std::string> & delimiters) {
    const std::string_view rest = text.substr(at);
    match found = match::none;
    for (const std::string & delimiter : delimiters) {
        const size_t n = std::min(rest.size(), delimiter.size());
        if (rest.compare(0, n, delimiter, 0, n) == 0) {
            if (n == delimiter.size()) {
                return match::whole;
            }
            found = match::partial;
        }
    }
    return found;
}

}  // namespace

std::optional<std::vector<std::string>> text_delimiters(const common_peg_arena & parser, const std::string & tag) {
    std::vector<std::string> delimiters;
    bool found = false;
    for (common_peg_parser_id id = 0; id < parser.size(); ++id) {
        const auto * tagged = std::get_if<common_peg_tag_parser>(&parser.get(id));
        if (tagged == nullptr || tagged->tag != tag) {
            continue;
        }
        if (!collect(parser, tagged->child, delimiters)) {
            return std::nullopt;
        }
        found = true;
    }
    std::sort(delimiters.begin(), delimiters.end());
    delimiters.erase(std::unique(delimiters.begin(), delimiters.end()), delimiters.end());
    if (!found || (!delimiters.empty() && delimiters.front().empty())) {
        return std::nullopt;
    }
    return delimiters;
}

field_text read_field(const std::string & text, size_t begin, const std::vector<std::string> & delimiters) {
    const std::string_view all = text;
    const size_t valid = begin + valid_utf8_prefix(all.substr(begin));
    for (size_t at = begin; at < valid; ++at) {
        switch (match_at(all, at, delimiters)) {
            case match::whole: return {at, true};
            case match::partial: return {at, false};
            case match::none: break;
        }
    }
    // A character takes four bytes at most: more than three that do not decode are not a cut one.
    return {valid, text.size() - valid > 3};
}

bool has_json_arguments(const common_peg_arena & parser) {
    bool found = false;
    for (common_peg_parser_id id = 0; id < parser.size(); ++id) {
        const auto * tagged = std::get_if<common_peg_tag_parser>(&parser.get(id));
        if (tagged == nullptr) {
            continue;
        }
        if (tagged->tag == common_chat_peg_builder::TOOL_ARGS) {
            if (!is_json(parser, tagged->child)) {
                return false;
            }
            found = true;
        } else if (tagged->tag.rfind("tool-arg", 0) == 0) {
            return false;  // arguments that are put together from parts
        }
    }
    return found;
}

void json_string_tracker::read(std::string_view more) {
    for (const char c : more) {
        ++n_read_;
        if (n_escape_ > 0) {
            const bool begins_digits = c == 'u' && !escape_digits_;
            n_escape_ = begins_digits ? 4 : n_escape_ - 1;
            escape_digits_ = n_escape_ > 0;
        } else if (in_string_ && c == '\\') {
            n_escape_ = 1;
        } else if (c == '"') {
            in_string_ = !in_string_;
            string_begin_ = n_read_;
        }
    }
}

bool ends_with_value(const std::string & text, const std::string & inside) {
    std::string value;
    try {
        value = common_json::parse("\"" + inside + "\"").get<std::string>();
    } catch (const std::exception &) {
        return false;
    }
    if (value.find_first_not_of(" \t\r\n") == std::string::npos || value.size() >= text.size() ||
        !string_ends_with(text, value)) {
        return false;
    }
    const char before = text[text.size() - value.size() - 1];
    return before != '"' && before != '\'';
}

field_text read_json_string(const std::string & text, size_t begin) {
    const std::string_view all = text;
    const size_t valid = begin + valid_utf8_prefix(all.substr(begin));
    for (size_t at = begin; at < valid;) {
        if (all[at] == '"') {
            return {at, true};
        }
        if (all[at] != '\\') {
            ++at;
            continue;
        }
        const size_t n = escape_length(all.substr(at, std::min<size_t>(6, valid - at)));
        if (n == 0 || n == std::string_view::npos) {
            return {at, n != 0};
        }
        at += n;
    }
    return {valid, text.size() - valid > 3};
}

}  // namespace pyllama
