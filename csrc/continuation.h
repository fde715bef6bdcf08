// Continuing the assistant message at the end of a request: which of its texts goes on, and what that means for the
// prompt. The open prefix itself (start of turn, tags, texts) is rebuilt by llama-common's handler of the template. Any
// thread.
#pragma once

#include <string>

#include "chat.h"
#include "json.h"
#include "request.h"

namespace pyllama {

// Reads continue_final_message and add_generation_prompt, after the messages. What is to be continued is then resolved
// to the reasoning, the content or nothing: an empty message at the end is left out, and the answer begins at the
// generation prompt. Throws error(invalid_request).
void read_continuation(const model & model, const common_json & body, chat_request & request);

// A content without reasoning, where the template itself writes such a turn without a reasoning block: the generation
// prompt, what opens the content (a channel, a recipient, often nothing), the content. Then `inputs` becomes what was
// asked before the answer, and what follows its generation prompt is returned. The handlers would put an empty
// reasoning block before it. Otherwise empty, and nothing changes.
std::string take_plain_content(const common_chat_templates * templates, common_chat_templates_inputs & inputs);

// How many bytes at the end of the continued message's reasoning `session` repeats: the parser leaves the white space
// before the end tag to the reasoning, and where it belongs to the template, the handler writes it once more.
size_t repeated_reasoning_bytes(const common_chat_templates_inputs & inputs, const common_chat_session & session);

// What the template, and not the client, has put before the answer: the generation prompt without the text that is
// continued, whatever tags are in that.
std::string own_prefix(const common_chat_templates_inputs & inputs, const common_chat_session & session);

}  // namespace pyllama
