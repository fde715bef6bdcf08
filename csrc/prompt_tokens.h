// Prompts as clients write them: text, token ids, both in turns, or several of those. Any thread.
#pragma once

#include <string>
#include <vector>

#include "common.h"
#include "json.h"
#include "media.h"
#include "model.h"

namespace pyllama {

// The token id of a JSON number. Throws when it is none, or not in the vocabulary.
llama_token as_token(const model & model, const common_json & value, const std::string & field);

// Tokens of a string, or of a list of strings and token ids. Special tokens are added to a text that comes first.
llama_tokens tokenize_mixed(const model & model, const common_json & value, bool add_special, bool parse_special,
                            const std::string & field);

// Whether this is one prompt, rather than a list of them.
bool is_one_prompt(const common_json & value);

// One prompt: as tokenize_mixed takes it, or an object with "prompt_string" and maybe "multimodal_data", a list of what
// read_media() takes. With media, it has fewer than n_ctx tokens, or context_exceeded is thrown.
media_prompt tokenize_prompt(const model & model, const common_json & value, int32_t n_ctx, const std::string & field);

// One prompt or a list of them, at most `most`. Throws for none.
std::vector<media_prompt> tokenize_prompts(const model & model, const common_json & value, size_t most, int32_t n_ctx,
                                           const std::string & field);

// The text of a prompt, special tokens included and media left out.
std::string prompt_text(const model & model, const llama_tokens & tokens);

}  // namespace pyllama
