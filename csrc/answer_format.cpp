#include "answer_format.h"

#include <algorithm>
#include <cmath>

#include "build-info.h"
#include "json_text.h"

namespace pyllama {

namespace {

// The token's id and text, and its logprob or probability: null when there is none.
void append_token(std::string & out, const model & model, llama_token token, const float * logprob,
                  bool as_probability) {
    const std::string text = model.piece(token, true);
    out += "\"id\":";
    append_integer(out, token);
    out += ",\"token\":";
    append_quoted(out, text);
    out += ",\"bytes\":";
    append_bytes(out, text);
    out += as_probability ? ",\"prob\":" : ",\"logprob\":";
    if (logprob != nullptr) {
        append_number(out, as_probability ? std::exp(*logprob) : *logprob);
    } else {
        out += "null";
    }
}

void append_rate(std::string & out, const char * name, double value) {
    out += name;
    append_number(out, value);
}

}  // namespace

std::string envelope_members(const answer_format & format, std::string_view object) {
    std::string out = "\"created\":";
    append_integer(out, format.created);
    out += ",\"id\":";
    append_quoted(out, format.id);
    out += ",\"model\":";
    append_quoted(out, format.loaded_model->name());
    out += ",\"system_fingerprint\":";
    append_quoted(out, llama_build_info());
    out += ",\"object\":";
    append_quoted(out, object);
    return out;
}

std::string_view finish_reason_name(const generation_result & result, bool has_tool_calls) {
    if (result.failure) {
        return "error";
    }
    if (result.reason == finish_reason::length) {
        return "length";
    }
    return has_tool_calls && is_complete(result) ? "tool_calls" : "stop";
}

void add_result(generation_result & total, const generation_result & choice) {
    const auto longest = [](auto & sum, auto value) { sum = std::max(sum, value); };
    longest(total.n_prompt_tokens, choice.n_prompt_tokens);
    longest(total.timings.n_cached, choice.timings.n_cached);
    longest(total.timings.n_prompt, choice.timings.n_prompt);
    longest(total.timings.prompt_ms, choice.timings.prompt_ms);
    longest(total.timings.decode_ms, choice.timings.decode_ms);
    total.timings.n_decoded += choice.timings.n_decoded;
    total.n_reasoning_tokens += choice.n_reasoning_tokens;
}

void append_failure(std::string & out, const generation_result & result) {
    if (result.failure) {
        out += ",\"error\":";
        append_error(out, *result.failure);
    }
}

void append_usage(std::string & out, const generation_result & result) {
    const int64_t n_completion = result.timings.n_decoded;
    out += "{\"completion_tokens\":";
    append_integer(out, n_completion);
    out += ",\"prompt_tokens\":";
    append_integer(out, result.n_prompt_tokens);
    out += ",\"total_tokens\":";
    append_integer(out, n_completion + result.n_prompt_tokens);
    out += ",\"prompt_tokens_details\":{\"cached_tokens\":";
    append_integer(out, result.timings.n_cached);
    out += "},\"completion_tokens_details\":{\"reasoning_tokens\":";
    append_integer(out, result.n_reasoning_tokens);
    out += "}}";
}

void append_timings(std::string & out, const generation_timings & timings) {
    const auto per_token = [](double ms, int32_t n) { return n > 0 ? ms / n : 0.0; };
    const auto per_second = [](double ms, int32_t n) { return ms > 0 ? 1e3 * n / ms : 0.0; };
    out += "{\"cache_n\":";
    append_integer(out, timings.n_cached);
    out += ",\"prompt_n\":";
    append_integer(out, timings.n_prompt);
    append_rate(out, ",\"prompt_ms\":", timings.prompt_ms);
    append_rate(out, ",\"prompt_per_token_ms\":", per_token(timings.prompt_ms, timings.n_prompt));
    append_rate(out, ",\"prompt_per_second\":", per_second(timings.prompt_ms, timings.n_prompt));
    out += ",\"predicted_n\":";
    append_integer(out, timings.n_decoded);
    append_rate(out, ",\"predicted_ms\":", timings.decode_ms);
    // The prompt's last step gave the first token.
    const int32_t n_steps = std::max(timings.n_decoded - 1, 0);
    append_rate(out, ",\"predicted_per_token_ms\":", per_token(timings.decode_ms, n_steps));
    append_rate(out, ",\"predicted_per_second\":", per_second(timings.decode_ms, n_steps));
    out += '}';
}

void append_progress(std::string & out, const prefill_progress & progress, bool with_timings) {
    out += "{\"total\":";
    append_integer(out, progress.n_total);
    out += ",\"cache\":";
    append_integer(out, progress.n_cached);
    out += ",\"processed\":";
    append_integer(out, progress.n_processed);
    out += ",\"time_ms\":";
    append_integer(out, static_cast<int64_t>(progress.elapsed_ms));
    out += '}';
    if (with_timings) {
        generation_timings timings;
        timings.n_cached = progress.n_cached;
        timings.n_prompt = progress.n_processed - progress.n_cached;
        timings.prompt_ms = timings.n_prompt > 0 ? progress.elapsed_ms : 0;
        out += ",\"timings\":";
        append_timings(out, timings);
    }
}

const generation_timings * newest_timings(const std::vector<piece> & batch) {
    const auto found =
        std::find_if(batch.rbegin(), batch.rend(), [](const piece & value) { return value.timings != nullptr; });
    return found != batch.rend() ? found->timings.get() : nullptr;
}

void append_logprobs(std::string & out, const model & model, const std::vector<piece> & batch, bool as_probabilities) {
    for (const piece & value : batch) {
        if (value.token == LLAMA_TOKEN_NULL) {
            continue;
        }
        out += out.empty() ? "{" : ",{";
        // A forced token was not sampled: it has no probability.
        append_token(out, model, value.token, value.logprobs ? &value.logprobs->logprob : nullptr, as_probabilities);
        out += as_probabilities ? ",\"top_probs\":[" : ",\"top_logprobs\":[";
        if (value.logprobs) {
            bool first = true;
            for (const token_logprob & alternative : value.logprobs->top) {
                out += first ? "{" : ",{";
                append_token(out, model, alternative.token, &alternative.logprob, as_probabilities);
                out += '}';
                first = false;
            }
        }
        out += "]}";
    }
}

void append_tool_call_delta(std::string & out, const tool_call_delta & delta) {
    out += "{\"index\":";
    append_integer(out, static_cast<int64_t>(delta.index));
    if (!delta.id.empty()) {
        out += ",\"id\":";
        append_quoted(out, delta.id);
        out += ",\"type\":\"function\"";
    }
    out += ",\"function\":{";
    if (!delta.name.empty()) {
        out += "\"name\":";
        append_quoted(out, delta.name);
        out += ',';
    }
    out += "\"arguments\":";
    append_quoted(out, delta.arguments);
    out += "}}";
}

}  // namespace pyllama
