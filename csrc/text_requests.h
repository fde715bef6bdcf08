// What is asked of the vocabulary and the chat template alone: answered on the caller's thread, without a slot. Any
// thread; milliseconds.
#pragma once

#include <string>
#include <string_view>

#include "model.h"

namespace pyllama {

enum class text_request {
    tokenize,                // {"content", "add_special", "parse_special", "with_pieces"} -> {"tokens"}
    detokenize,              // {"tokens"} -> {"content"}
    apply_template,          // a chat request -> {"prompt"}
    count_tokens,            // a chat request -> {"input_tokens", "object"}
    count_responses_tokens,  // the same of OpenAI's Responses
    count_anthropic_tokens,  // and of Anthropic's messages -> {"input_tokens"}
};

// JSON of the request to JSON of the answer, as llama-server's endpoints of these names. Throws
// error(invalid_request) with the field named.
std::string answer(const model & model, text_request kind, std::string_view body);

// The text of tokens, control tokens included, as bytes: nothing says that it is whole characters.
std::string detokenize(const model & model, const llama_tokens & tokens);

}  // namespace pyllama
