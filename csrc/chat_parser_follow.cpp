// Text that belongs to an open field without being parsed: see chat_parser.h. Render thread.

#include <string>
#include <string_view>
#include <utility>

#include "chat_parser.h"
#include "json.h"

namespace pyllama {

// Adds the new text of an open field to it, up to a delimiter.
chat_delta chat_parser::follow() {
    chat_delta delta;
    if (open_ == field::none) {
        return delta;
    }
    if (open_ == field::json_string || open_ == field::tagged_string) {
        return follow_arguments();
    }
    const bool reasons = open_ == field::reasoning;
    const field_text found = read_field(input_.text, n_parsed_, reasons ? *reasoning_end_ : *content_end_);
    std::string & added = reasons ? delta.reasoning : delta.content;
    added.assign(input_.text, n_parsed_, found.end - n_parsed_);
    (reasons ? reasoning_ : content_) += added;
    n_parsed_ = n_counted_ = found.end;
    if (found.closed) {
        open_ = field::none;
    }
    return delta;
}

// The same of a string in a call's arguments, up to its quote, or to the tag behind it.
chat_delta chat_parser::follow_arguments() {
    chat_delta delta;
    const bool tagged = open_ == field::tagged_string;
    const field_text found =
        tagged ? read_field(input_.text, n_parsed_, *tagged_string_end_) : read_json_string(input_.text, n_parsed_);
    if (found.end > n_parsed_) {
        tool_call_delta change;
        change.index = calls_.size() - 1;
        change.arguments.assign(input_.text, n_parsed_, found.end - n_parsed_);
        if (tagged) {  // escaped as llama-common's own text is
            const std::string quoted = common_json(change.arguments).dump();
            change.arguments.assign(quoted, 1, quoted.size() - 2);
        }
        calls_.back().arguments += change.arguments;
        delta.tool_calls.push_back(std::move(change));
        n_parsed_ = n_counted_ = found.end;
    }
    if (found.closed) {
        open_ = field::none;
    }
    return delta;
}

// The string of the last call's arguments that the text ends in, all of which was sent.
chat_parser::field chat_parser::open_argument(const common_chat_msg & message) {
    const std::string & arguments = message.tool_calls.back().arguments;
    if ((!json_arguments_ && !tagged_string_end_) || message.tool_calls.size() != calls_.size() ||
        arguments != calls_.back().arguments) {
        return field::none;
    }
    if (n_tracked_call_ != calls_.size()) {
        n_tracked_call_ = calls_.size();
        n_tracked_ = 0;
        strings_ = {};
    }
    strings_.read(std::string_view(arguments).substr(n_tracked_));
    n_tracked_ = arguments.size();
    if (!strings_.in_string()) {
        return field::none;
    }
    if (json_arguments_) {
        return string_ends_with(input_.text, arguments) ? field::json_string : field::none;
    }
    return ends_with_value(input_.text, arguments.substr(strings_.string_begin())) ? field::tagged_string : field::none;
}

// The field that is open after a parse which gave `delta` for the text from `begin` on: the one that took all of
// that text as it is, so the parser ended within it. Blank text proves nothing.
chat_parser::field chat_parser::open_after(const chat_delta & delta, size_t begin) const {
    if (!calls_.empty() || !delta.tool_calls.empty() ||
        input_.text.find_first_not_of(" \t\r\n", begin) == std::string::npos) {
        return field::none;
    }
    const auto is_all = [&](const std::string & part) {
        return input_.text.compare(begin, std::string::npos, part) == 0;
    };
    if (reasoning_end_ && delta.content.empty() && is_all(delta.reasoning)) {
        return field::reasoning;
    }
    if (content_end_ && delta.reasoning.empty() && is_all(delta.content)) {
        return field::content;
    }
    return field::none;
}

}  // namespace pyllama
