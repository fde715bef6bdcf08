// Fill-in-the-middle prompts: what stands before and behind the cursor, between the model's own markers. Any thread.
#pragma once

#include "common.h"
#include "json.h"
#include "model.h"

namespace pyllama {

// The prompt of a request with "input_prefix", "input_suffix" and maybe "input_extra" (other files' text) and "prompt"
// (the beginning of the answer). Of texts that are too long, what is nearest to the cursor is kept. Throws error:
// unsupported when the model has no such markers, invalid_request with the field named.
llama_tokens infill_prompt(const model & model, const common_json & body, int32_t n_ctx);

}  // namespace pyllama
