#include "reasoning_style.h"

#include <algorithm>
#include <cctype>

namespace pyllama {

namespace {

bool is_space(char c) {
    return std::isspace(static_cast<unsigned char>(c)) != 0;
}

std::string trimmed(const std::string & text) {
    const auto begin = std::find_if_not(text.begin(), text.end(), is_space);
    const auto end = std::find_if_not(text.rbegin(), std::string::const_reverse_iterator(begin), is_space).base();
    return {begin, end};
}

}  // namespace

reasoning_style find_reasoning_style(const common_chat_templates * templates, bool use_jinja) {
    static const std::string thought = "Some thought";
    static const std::string answer = "An answer";
    common_chat_templates_inputs inputs;
    inputs.use_jinja = use_jinja;
    inputs.add_generation_prompt = false;
    inputs.messages.resize(2);
    inputs.messages[0].role = "user";
    inputs.messages[0].content = "A question";
    inputs.messages[1].role = "assistant";
    inputs.messages[1].reasoning_content = thought;
    inputs.messages[1].content = answer;
    std::string text;
    try {
        text = common_chat_templates_apply(templates, inputs).prompt;
    } catch (const std::exception &) {
        return {};  // requests will say what is wrong with it
    }
    const size_t begin = text.rfind(thought);
    const size_t end = text.rfind(answer);
    if (begin == std::string::npos || end == std::string::npos || end < begin + thought.size()) {
        return {};
    }
    const std::string between = text.substr(begin + thought.size(), end - begin - thought.size());
    reasoning_style style;
    style.end = trimmed(between);
    const size_t at = between.find(style.end);
    style.before_end = between.substr(0, at);
    style.after_end = between.substr(at + style.end.size());
    return style;
}

}  // namespace pyllama
