#include "prompt_settings.h"

#include <algorithm>

#include "errors.h"
#include "json-schema-to-grammar.h"
#include "random_id.h"

namespace pyllama {

void require_compilable(const std::string & schema, const std::string & field) {
    if (schema.empty()) {
        return;
    }
    try {
        json_schema_to_grammar(common_json::parse(schema));
    } catch (const std::exception & e) {
        throw bad_request("'" + field + "' cannot be compiled: " + e.what(), field);
    }
}

void check_size(const model & model, const std::string & text, int32_t n_ctx) {
    const size_t most = static_cast<size_t>(std::max(n_ctx, 0)) * model.max_token_bytes();
    if (text.size() > most) {
        throw context_exceeded(static_cast<int64_t>((text.size() - 1) / model.max_token_bytes() + 1), n_ctx);
    }
}

void limit_memory(common_params_sampling & sampling, int32_t n_ctx_slot) {
    sampling.penalty_last_n = std::min(sampling.penalty_last_n, n_ctx_slot);
    sampling.dry_penalty_last_n = std::min(sampling.dry_penalty_last_n, n_ctx_slot);
}

void check_choices(const generation_request & request, const prompt_limits & limits) {
    if (request.n_choices > limits.n_slots) {
        throw bad_request("'" + request.choices_field + "' must be between 1 and " + std::to_string(limits.n_slots) +
                              ", the number of slots, but is " + std::to_string(request.n_choices),
                          request.choices_field);
    }
}

void require_one_answer(dialect dialect, int32_t n_answers, const std::string & field) {
    const bool has_choices = dialect == dialect::openai || dialect == dialect::native || dialect == dialect::deltas;
    if (!has_choices && n_answers > 1) {
        throw bad_request(
            "'" + field + "' asks for " + std::to_string(n_answers) + " answers; here each request has one", field);
    }
}

void take_settings(const model & model, generation_request & request, const prompt_limits & limits, bool streams,
                   generation_params & params) {
    params.sampling = std::move(request.sampling);
    if (request.random_seed) {
        params.sampling.seed = random_seed();
    }
    limit_memory(params.sampling, limits.n_ctx_slot);
    params.n_predict = request.n_predict;
    params.n_logprobs = request.n_logprobs;
    params.cache_prompt = request.cache_prompt;
    params.domain = std::move(request.cache_salt);
    params.id_slot = request.id_slot;
    params.n_keep = request.n_keep;
    params.n_discard = request.n_discard;
    params.n_cache_reuse = request.n_cache_reuse;
    params.lora = std::move(request.lora);
    params.t_max_predict_ms = request.t_max_predict_ms;
    params.special = model.params().special;
    params.timings_per_token = streams && request.timings_per_token;
    params.return_progress = streams && request.return_progress;
    params.stop = std::move(request.stop);
    if (request.reasoning.soft < 0) {
        request.reasoning.soft = limits.reasoning_budget_soft;
    }
}

std::string use_constraint(const generation_request & request, common_params_sampling & sampling) {
    if (!request.json_schema.empty()) {
        try {
            sampling.grammar = {COMMON_GRAMMAR_TYPE_OUTPUT_FORMAT,
                                json_schema_to_grammar(common_json::parse(request.json_schema))};
        } catch (const std::exception & e) {
            throw bad_request("'" + request.schema_field + "' cannot be compiled: " + e.what(), request.schema_field);
        }
        sampling.grammar_lazy = false;
        return request.schema_field;
    }
    if (!request.grammar.empty()) {
        if (request.grammar.size() > request_limits::user_grammar_bytes) {
            throw bad_request(
                "'grammar' is larger than " + std::to_string(request_limits::user_grammar_bytes) + " bytes", "grammar");
        }
        sampling.grammar = {COMMON_GRAMMAR_TYPE_USER, request.grammar};
        sampling.grammar_lazy = false;
    }
    return "grammar";
}

}  // namespace pyllama
