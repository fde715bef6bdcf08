#include "continuation.h"

#include <algorithm>

#include "errors.h"
#include "request_fields.h"

namespace pyllama {

namespace {

bool ends_with(const std::string & text, const std::string & tail) {
    return text.size() >= tail.size() && text.compare(text.size() - tail.size(), tail.size(), tail) == 0;
}

common_chat_continuation read_mode(const common_json & mode) {
    try {
        return common_chat_continuation_parse(mode);
    } catch (const std::exception &) {
        throw bad_request("'continue_final_message' must be true, false, \"content\" or \"reasoning_content\"",
                          "continue_final_message");
    }
}

constexpr const char * white_space = " \t\r\n";

std::string without_white_space_before(const std::string & tag) {
    const size_t first = tag.find_first_not_of(white_space);
    return first == std::string::npos ? std::string() : tag.substr(first);
}

bool has_thinking_tag(const common_chat_params & params, const std::string & text) {
    const auto has = [&](const std::string & tag) {
        const std::string bare = without_white_space_before(tag);
        return !bare.empty() && text.find(bare) != std::string::npos;
    };
    return has(params.thinking_start_tag) ||
           std::any_of(params.thinking_end_tags.begin(), params.thinking_end_tags.end(), has);
}

// Where the last end tag begins, white space before it not counted.
size_t last_end_tag(const common_chat_session & session, const std::string & text) {
    size_t last = std::string::npos;
    for (const std::string & tag : session.thinking_end_tags()) {
        const std::string bare = without_white_space_before(tag);
        const size_t at = bare.empty() ? std::string::npos : text.rfind(bare);
        if (at != std::string::npos && (last == std::string::npos || at > last)) {
            last = at;
        }
    }
    return last;
}

}  // namespace

void read_continuation(const model & model, const common_json & body, chat_request & request) {
    auto & inputs = request.inputs;
    auto & messages = inputs.messages;
    auto & mode = inputs.continue_final_message;
    const common_json * add = find_field(body, "add_generation_prompt");
    if (add != nullptr) {
        inputs.add_generation_prompt = as_bool(*add, "add_generation_prompt");
    }
    const bool ends_with_assistant = !messages.empty() && messages.back().role == "assistant";
    if (const common_json * asked = find_field(body, "continue_final_message")) {
        mode = read_mode(*asked);
        if (mode == COMMON_CHAT_CONTINUATION_NONE) {
            return;
        }
        if (add != nullptr && inputs.add_generation_prompt) {
            throw bad_request("'add_generation_prompt' and 'continue_final_message' cannot both be true",
                              "add_generation_prompt");
        }
        if (!ends_with_assistant) {
            throw bad_request(
                "'continue_final_message' needs an assistant message at the end of '" + request.messages_field + "'",
                "continue_final_message");
        }
    } else if (model.params().prefill_assistant && ends_with_assistant) {
        mode = COMMON_CHAT_CONTINUATION_AUTO;
    } else {
        return;
    }

    const common_chat_msg & last = messages.back();
    const message_fields & field = request.fields[messages.size() - 1];
    if (messages.size() >= 2 && messages[messages.size() - 2].role == "assistant") {
        throw bad_request("'" + request.messages_field + "' must not end with two assistant messages", field.item);
    }
    if (!last.tool_calls.empty()) {
        throw bad_request("an assistant message with tool calls cannot be continued", field.calls);
    }
    const bool has_content = !last.render_content().empty();
    if (!has_content && last.reasoning_content.empty()) {
        // Stopped before its first text. The handlers leave even the start of the turn out for such a message.
        if (messages.size() == 1) {
            throw bad_request("'" + request.messages_field + "' holds nothing to answer and nothing to continue",
                              request.messages_field);
        }
        messages.pop_back();
        mode = COMMON_CHAT_CONTINUATION_NONE;
        inputs.add_generation_prompt = true;
        return;
    }
    if (mode == COMMON_CHAT_CONTINUATION_AUTO) {
        mode = has_content ? COMMON_CHAT_CONTINUATION_CONTENT : COMMON_CHAT_CONTINUATION_REASONING;
    }
    inputs.add_generation_prompt = false;
}

std::string take_plain_content(const common_chat_templates * templates, common_chat_templates_inputs & inputs) {
    if (inputs.continue_final_message != COMMON_CHAT_CONTINUATION_CONTENT ||
        !inputs.messages.back().reasoning_content.empty()) {
        return {};
    }
    // A word that no template trims or takes apart stands for the content.
    static const std::string word = "placeholder";
    common_chat_templates_inputs turn = inputs;
    turn.continue_final_message = COMMON_CHAT_CONTINUATION_NONE;
    common_chat_templates_inputs before = turn;
    turn.messages.back().content = word;
    turn.messages.back().content_parts.clear();
    before.messages.pop_back();
    before.add_generation_prompt = true;
    std::string opening;
    try {
        const common_chat_params asked = common_chat_templates_apply(templates, before);
        const std::string whole = common_chat_templates_apply(templates, turn).prompt;
        const size_t at = whole.find(word, asked.prompt.size());
        if (at == std::string::npos || whole.compare(0, asked.prompt.size(), asked.prompt) != 0) {
            return {};
        }
        opening = whole.substr(asked.prompt.size(), at - asked.prompt.size());
        if (has_thinking_tag(asked, opening)) {
            return {};
        }
    } catch (const std::exception &) {
        return {};  // the handler's way tells what is wrong
    }
    const std::string content = inputs.messages.back().render_content();
    inputs = std::move(before);
    return opening + content;
}

std::string own_prefix(const common_chat_templates_inputs & inputs, const common_chat_session & session) {
    std::string prefix = session.generation_prompt();
    if (inputs.continue_final_message != COMMON_CHAT_CONTINUATION_NONE) {
        const common_chat_msg & message = inputs.messages.back();
        const std::string text = inputs.continue_final_message == COMMON_CHAT_CONTINUATION_CONTENT
                                     ? message.render_content()
                                     : message.reasoning_content;
        if (ends_with(prefix, text)) {
            prefix.resize(prefix.size() - text.size());
        }
    }
    return prefix;
}

size_t repeated_reasoning_bytes(const common_chat_templates_inputs & inputs, const common_chat_session & session) {
    if (inputs.continue_final_message != COMMON_CHAT_CONTINUATION_CONTENT) {
        return 0;
    }
    const std::string & reasoning = inputs.messages.back().reasoning_content;
    const size_t own = reasoning.size() - (reasoning.find_last_not_of(white_space) + 1);
    const std::string prefix = own_prefix(inputs, session);
    const size_t tag = last_end_tag(session, prefix);
    if (own == 0 || tag == std::string::npos || tag == 0) {
        return 0;
    }
    // All the white space before the end tag: the reasoning's own, then the template's.
    const size_t all = tag - (prefix.find_last_not_of(white_space, tag - 1) + 1);
    const size_t added = all > own ? all - own : 0;
    for (size_t n = std::min(own, added); n > 0; --n) {
        if (reasoning.compare(reasoning.size() - n, n, prefix, tag - added, n) == 0) {
            return n;
        }
    }
    return 0;
}

}  // namespace pyllama
