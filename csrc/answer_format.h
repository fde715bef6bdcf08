// What the OpenAI-like dialects share: the constant part of an answer and its JSON fragments. As frame_writer: one
// thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "chat_parser.h"
#include "model.h"
#include "types.h"

namespace pyllama {

struct answer_format {
    std::string id;
    int64_t created = 0;  // unix seconds
    bool include_usage = false;
    bool logprobs = false;
    bool timings_per_token = false;  // of a stream
    std::shared_ptr<const model> loaded_model;
};

// "created":...,"id":...,"model":...,"system_fingerprint":...,"object":<object>
std::string envelope_members(const answer_format & format, std::string_view object);

// stop, length or tool_calls; error for a choice that failed beside others.
std::string_view finish_reason_name(const generation_result & result, bool has_tool_calls);

// Whether the model came to an end by itself, rather than being cut.
inline bool is_complete(const generation_result & result) {
    return result.reason == finish_reason::stop && !result.cut && !result.failure;
}

// Adds a choice to the sum over a request's choices: the prompt counts once, and the time is the longest choice's.
void add_result(generation_result & total, const generation_result & choice);

// The members of a choice that failed: ,"error":{...}. Nothing for others.
void append_failure(std::string & out, const generation_result & result);

// {"completion_tokens":...,"prompt_tokens":...,"total_tokens":...,...}
void append_usage(std::string & out, const generation_result & result);

// {"cache_n":...,"prompt_n":...,...} with llama-server's names.
void append_timings(std::string & out, const generation_timings & timings);

// {"total":...,"cache":...,"processed":...,"time_ms":...} with llama-server's names.
// `with_timings`: and a "timings" member beside it, up to now.
void append_progress(std::string & out, const prefill_progress & progress, bool with_timings);

// The timings of the newest piece that has some, or null.
const generation_timings * newest_timings(const std::vector<piece> & batch);

// The elements of a logprobs "content" list, comma separated: one per piece, also onto an `out` that has some.
// `as_probabilities`: "prob" and "top_probs", from 0 to 1, instead of logarithms.
void append_logprobs(std::string & out, const model & model, const std::vector<piece> & batch,
                     bool as_probabilities = false);

// [{"index":...,"id":...,"type":"function","function":{...}}]: only the members that have a value.
void append_tool_call_delta(std::string & out, const tool_call_delta & delta);

}  // namespace pyllama
