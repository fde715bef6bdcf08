#include "request_completion.h"

#include <algorithm>
#include <limits>

#include "errors.h"
#include "infill.h"
#include "prompt_tokens.h"
#include "request_fields.h"

namespace pyllama {

namespace {

constexpr int64_t int32_most = std::numeric_limits<int32_t>::max();

int32_t integer(const common_json & body, const char * name, int64_t least, int32_t otherwise) {
    const common_json * value = find_field(body, name);
    return value != nullptr ? static_cast<int32_t>(as_integer(*value, name, least, int32_most)) : otherwise;
}

bool flag(const common_json & body, const char * name) {
    const common_json * value = find_field(body, name);
    return value != nullptr && as_bool(*value, name);
}

void check_prompts(const completion_request & request, const prompt_limits & limits) {
    for (const media_prompt & prompt : request.prompts) {
        const llama_tokens & tokens = prompt.tokens;
        if (tokens.empty()) {
            throw bad_request("'prompt' gives no tokens", "prompt");
        }
        if (tokens.size() >= static_cast<size_t>(limits.n_ctx_slot)) {
            throw context_exceeded(static_cast<int64_t>(tokens.size()), limits.n_ctx_slot);
        }
    }
}

// OpenAI's spelling of n_probs.
void read_logprobs(const common_json & body, completion_request & request) {
    const common_json * value = find_field(body, "logprobs");
    if (value != nullptr && find_field(body, "n_probs") == nullptr) {
        const auto n = static_cast<int32_t>(as_integer(*value, "logprobs", 0, request_limits::n_probs));
        request.n_logprobs = n > 0 ? n : -1;
        request.sampling.n_probs = n;
    }
}

void read_response_fields(const common_json & body, completion_request & request) {
    const common_json * fields = find_field(body, "response_fields");
    if (fields == nullptr) {
        return;
    }
    if (as_array(*fields, "response_fields").size() > request_limits::n_response_fields) {
        throw bad_request(
            "'response_fields' has more than " + std::to_string(request_limits::n_response_fields) + " entries",
            "response_fields");
    }
    for (const common_json & field : *fields) {
        request.response_fields.push_back(as_string(field, "response_fields"));
    }
}

completion_request read_all_but_prompts(const model & model, const common_json & parsed) {
    completion_request request;
    read_plain_fields(model, parsed, request);
    read_constraint(parsed, request);
    if (!request.grammar.empty() && !request.json_schema.empty()) {
        throw bad_request("'grammar' cannot be combined with 'json_schema'", "grammar");
    }
    read_logprobs(parsed, request);
    read_response_fields(parsed, request);
    request.return_tokens = flag(parsed, "return_tokens");
    request.post_sampling_probs = flag(parsed, "post_sampling_probs");
    request.n_indent = integer(parsed, "n_indent", 0, 0);
    return request;
}

}  // namespace

completion_request parse_completion_request(const model & model, std::string_view body, const prompt_limits & limits) {
    const common_json parsed = parse_body(body);
    completion_request request = read_all_but_prompts(model, parsed);
    request.prompts =
        tokenize_prompts(model, required(parsed, "prompt", ""), request_limits::n_prompts, limits.n_ctx_slot, "prompt");
    check_prompts(request, limits);
    return request;
}

completion_request parse_infill_request(const model & model, std::string_view body, const prompt_limits & limits) {
    const common_json parsed = parse_body(body);
    completion_request request = read_all_but_prompts(model, parsed);
    request.prompts.push_back({infill_prompt(model, parsed, limits.n_ctx_slot), {}});
    check_prompts(request, limits);
    return request;
}

}  // namespace pyllama
