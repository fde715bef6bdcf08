// The body of Anthropic's POST /v1/messages as a chat request: every field is checked, and an error names the field of
// that body. What llama-server's chat takes beside it (samplers, seed, chat_template_kwargs, reasoning_control, ...) is
// taken here too. Any thread.
#pragma once

#include <string_view>

#include "request.h"

namespace pyllama {

// Throws error(invalid_request); error(unsupported) for an image.
//
// Messages may be empty. A user message becomes user and tool messages in the order of its blocks; an assistant
// message has its thinking as reasoning_content. Tools that Anthropic's API would run by itself are left out.
chat_request parse_anthropic_request(const model & model, std::string_view body);

}  // namespace pyllama
