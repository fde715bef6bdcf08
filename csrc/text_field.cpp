#include "text_field.h"

#include <algorithm>
#include <string_view>
#include <variant>

#include "json_text.h"

namespace pyllama {

namespace {

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

}  // namespace pyllama
