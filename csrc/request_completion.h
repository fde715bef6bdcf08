// A raw completion's JSON, decoded and validated: a prompt without a chat template. Any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "prompt.h"
#include "request.h"

namespace pyllama {

struct completion_request : generation_request {
    std::vector<media_prompt> prompts;         // at least one
    bool return_tokens = false;                // the ids of the answer beside its text
    bool post_sampling_probs = false;          // probabilities after the sampler chain, not before
    int32_t n_indent = 0;                      // least indentation of a line
    std::vector<std::string> response_fields;  // of the native answer; empty = all
};

// Throws error: invalid_request, context_exceeded.
completion_request parse_completion_request(const model & model, std::string_view body, const prompt_limits & limits);
// The same for code between a prefix and a suffix; also error(unsupported).
completion_request parse_infill_request(const model & model, std::string_view body, const prompt_limits & limits);

}  // namespace pyllama
