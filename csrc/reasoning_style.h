// How a chat template ends a reasoning block: what a model that was trained with it has seen there. Any thread.
#pragma once

#include <string>

#include "chat.h"

namespace pyllama {

// White space, the tag, white space; all empty when the template puts anything else between a thought and the answer.
struct reasoning_style {
    std::string before_end;
    std::string end;
    std::string after_end;
};

// Renders a message with a thought and an answer, and looks at what stands between them.
reasoning_style find_reasoning_style(const common_chat_templates * templates, bool use_jinja);

}  // namespace pyllama
