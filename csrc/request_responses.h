// The body of OpenAI's POST /v1/responses as a chat request: every field is checked, and an error names the field of
// that body. What llama-server's chat takes beside it (samplers, seed, chat_template_kwargs, reasoning_control, ...) is
// taken here too. Any thread.
#pragma once

#include <string_view>

#include "request.h"

namespace pyllama {

// Throws error(invalid_request); also for what needs a store of responses (previous_response_id, conversation, prompt,
// references to items).
//
// What the model said between two turns of the user (reasoning, messages and function calls) becomes one assistant
// message, as the model wrote it. Tools that OpenAI's API would run by itself are left out.
chat_request parse_responses_request(const model & model, std::string_view body);

}  // namespace pyllama
