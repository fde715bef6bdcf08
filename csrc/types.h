// What travels from the engine thread to the render thread for one request. Plain values, no ownership of
// anything shared.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "control_result.h"
#include "errors.h"
#include "llama.h"

namespace pyllama {

enum class finish_reason {
    stop,       // end-of-generation token or stop string
    length,     // max_tokens or the context is full
    cancelled,  // cancel(), or the last reader left
};

struct token_logprob {
    llama_token token;
    float logprob;  // natural logarithm, of the distribution before sampling
};

struct piece_logprobs {
    float logprob;                   // of the sampled token
    std::vector<token_logprob> top;  // most likely first
};

struct generation_timings {
    int32_t n_cached = 0;  // prompt tokens taken from the KV cache
    int32_t n_prompt = 0;  // prompt tokens decoded
    double prompt_ms = 0;
    int32_t n_decoded = 0;  // tokens generated
    double decode_ms = 0;
};

// One token's text, released by the slot: complete UTF-8 characters wherever the token stream allows it, and
// nothing of a stop string. Or the note of a control between two tokens.
struct piece {
    llama_token token = LLAMA_TOKEN_NULL;
    std::string text;
    std::unique_ptr<piece_logprobs> logprobs;     // null unless the request asked
    std::unique_ptr<generation_timings> timings;  // up to this token; null unless the request asked
    std::unique_ptr<control_note> control;        // instead of a token and text: a control took effect here
    int32_t choice = 0;                           // which of the request's answers it belongs to
};

// How much of the prompt is in the KV cache.
struct prefill_progress {
    int32_t n_total = 0;      // tokens of the prompt
    int32_t n_cached = 0;     // found in the cache at the start
    int32_t n_processed = 0;  // n_cached, and those decoded since
    double elapsed_ms = 0;    // since the start
};

// How one choice ended.
struct generation_result {
    int32_t choice = 0;
    finish_reason reason = finish_reason::stop;
    std::optional<error> failure;  // set: it failed, and `reason` says nothing
    std::string stop_string;       // the stop string that matched, empty when none did
    bool cut = false;              // a control ended it: the text may stop anywhere
    int32_t n_prompt_tokens = 0;
    int32_t n_reasoning_tokens = 0;
    int32_t id_slot = -1;    // where it ran last
    bool truncated = false;  // ended because the context is full
    generation_timings timings;
};

}  // namespace pyllama
