// The exception in flight as plain values, for a binding's `except +` handler. Called inside a catch block.
#pragma once

#include <new>
#include <string>

#include "errors.h"

namespace pyllama {

struct captured_error {
    bool out_of_memory = false;
    error_kind kind = error_kind::engine;
    std::string message;
    std::string param;
    int64_t n_prompt_tokens = 0;
    int64_t n_ctx = 0;
    int64_t retry_after = 0;
};

inline captured_error capture_error() {
    captured_error captured;
    try {
        throw;
    } catch (const error & e) {
        captured.kind = e.kind;
        captured.message = e.what();
        captured.param = e.param;
        captured.n_prompt_tokens = e.n_prompt_tokens;
        captured.n_ctx = e.n_ctx;
        captured.retry_after = e.retry_after;
    } catch (const std::bad_alloc &) {
        captured.out_of_memory = true;
        captured.message = "out of memory";
    } catch (const std::invalid_argument & e) {
        captured.kind = error_kind::invalid_request;
        captured.message = e.what();
    } catch (const std::exception & e) {
        captured.message = e.what();
    } catch (...) {
        captured.message = "unknown error";
    }
    return captured;
}

}  // namespace pyllama
