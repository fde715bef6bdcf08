// The error table of the core. The bindings translate `kind` into a Python class, and the HTTP layer that
// into a status and an OpenAI error type. Any thread may throw; nothing else leaves the core.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace pyllama {

enum class error_kind {
    invalid_request,   // the caller's fault: 400 invalid_request_error
    context_exceeded,  // the prompt does not fit: 400 exceed_context_size_error, with both counts
    media_url,         // an image is given by a URL, which the core does not fetch: 400, as invalid_request
    not_found,         // 404 not_found_error
    unsupported,       // 501 not_supported_error
    busy,              // the queue is full: 429 with Retry-After
    unavailable,       // loading or shutting down: 503 unavailable_error
    closed,            // a handle was used after close()
    model_load,        // the model file cannot be used: exit code 1 and one line
    engine,            // anything else: 500 server_error
};

class error : public std::runtime_error {
  public:
    error(error_kind of_kind, const std::string & message, std::string of_param = {})
        : std::runtime_error(message), kind(of_kind), param(std::move(of_param)) {}

    error_kind kind;
    std::string param;            // the request field at fault, empty when none is
    int64_t n_prompt_tokens = 0;  // context_exceeded only
    int64_t n_ctx = 0;            // context_exceeded only
    int64_t retry_after = 0;      // busy only: seconds until it is worth while to try again, 0 = not known
};

inline error bad_request(const std::string & message, std::string param = {}) {
    return {error_kind::invalid_request, message, std::move(param)};
}

inline error context_exceeded(int64_t n_prompt_tokens, int64_t n_ctx) {
    error result(error_kind::context_exceeded,
                 "the request exceeds the available context size: " + std::to_string(n_prompt_tokens) +
                     " prompt tokens, " + std::to_string(n_ctx) + " available");
    result.n_prompt_tokens = n_prompt_tokens;
    result.n_ctx = n_ctx;
    return result;
}

}  // namespace pyllama
