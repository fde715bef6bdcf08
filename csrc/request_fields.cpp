#include "request_fields.h"

#include <algorithm>
#include <limits>

#include "errors.h"
#include "prompt.h"
#include "sampling_fields.h"

namespace pyllama {

namespace {

// Above this --verbosity, llama-server puts debugging aids into answers.
constexpr int verbosity_of_answers = 9;

constexpr double int32_max = std::numeric_limits<int32_t>::max();

// One line of the table. Later lines win, so aliases stand before the name that overrides them. Not in it:
// `return_tokens`, which only the native completion answers; a chat request may carry it, as for llama-server.
struct plain_field {
    const char * name;
    enum { integer, number, boolean } type;
    double min;
    double max;
    void (*set)(generation_request & request, double value);
    bool clamped = false;  // llama-server takes the nearest value that makes sense, instead of an error
};

#define SET(expression) [](generation_request & r, double v) { expression; }
#define SAMPLING_INT(member) SET(r.sampling.member = static_cast<int32_t>(v))
#define SAMPLING_FLOAT(member) SET(r.sampling.member = static_cast<float>(v))

constexpr plain_field plain_fields[] = {
    {"stream", plain_field::boolean, 0, 1, SET(r.stream = v != 0)},
    {"echo", plain_field::boolean, 0, 1, SET(r.echo = v != 0)},
    {"cache_prompt", plain_field::boolean, 0, 1, SET(r.cache_prompt = v != 0)},
    // Both are about streams; a body has its timings at the end anyway.
    {"timings_per_token", plain_field::boolean, 0, 1, SET(r.timings_per_token = v != 0)},
    {"return_progress", plain_field::boolean, 0, 1, SET(r.return_progress = v != 0)},
    {"sse_ping_interval", plain_field::integer, -1, int32_max, SET(r.sse_ping_interval = static_cast<int32_t>(v))},
    {"verbose", plain_field::boolean, 0, 1, SET(r.verbose = v != 0)},
    {"max_tokens", plain_field::integer, -1, int32_max, SET(r.n_predict = static_cast<int32_t>(v))},
    {"max_completion_tokens", plain_field::integer, -1, int32_max, SET(r.n_predict = static_cast<int32_t>(v))},
    {"n_predict", plain_field::integer, -1, int32_max, SET(r.n_predict = static_cast<int32_t>(v))},
    {"t_max_predict_ms", plain_field::integer, -1, 1e15, SET(r.t_max_predict_ms = static_cast<int64_t>(v))},
    {"id_slot", plain_field::integer, -1, int32_max, SET(r.id_slot = static_cast<int32_t>(v))},
    {"priority", plain_field::integer, priority_limits::least, priority_limits::most,
     SET(r.priority = static_cast<int32_t>(v))},
    {"n_keep", plain_field::integer, -1, int32_max, SET(r.n_keep = static_cast<int32_t>(v))},
    {"n_discard", plain_field::integer, 0, int32_max, SET(r.n_discard = static_cast<int32_t>(v))},
    {"n_cache_reuse", plain_field::integer, 0, int32_max, SET(r.n_cache_reuse = static_cast<int32_t>(v))},
    {"temperature", plain_field::number, 0, 1000, SAMPLING_FLOAT(temp), true},
    {"dynatemp_range", plain_field::number, 0, 1000, SAMPLING_FLOAT(dynatemp_range)},
    {"dynatemp_exponent", plain_field::number, 0, 1000, SAMPLING_FLOAT(dynatemp_exponent)},
    {"top_k", plain_field::integer, 0, int32_max, SAMPLING_INT(top_k), true},
    {"top_p", plain_field::number, 0, 1, SAMPLING_FLOAT(top_p), true},
    {"min_p", plain_field::number, 0, 1, SAMPLING_FLOAT(min_p), true},
    {"typical_p", plain_field::number, 0, 1, SAMPLING_FLOAT(typ_p)},
    {"top_n_sigma", plain_field::number, -1000, 1000, SAMPLING_FLOAT(top_n_sigma)},
    {"xtc_probability", plain_field::number, 0, 1, SAMPLING_FLOAT(xtc_probability), true},
    {"xtc_threshold", plain_field::number, 0, 1, SAMPLING_FLOAT(xtc_threshold), true},
    {"repeat_last_n", plain_field::integer, 0, int32_max, SAMPLING_INT(penalty_last_n)},
    {"repeat_penalty", plain_field::number, 1e-6, 1e6, SAMPLING_FLOAT(penalty_repeat)},
    {"presence_penalty", plain_field::number, -1000, 1000, SAMPLING_FLOAT(penalty_present)},
    {"frequency_penalty", plain_field::number, -1000, 1000, SAMPLING_FLOAT(penalty_freq)},
    {"dry_multiplier", plain_field::number, 0, 1000, SAMPLING_FLOAT(dry_multiplier)},
    // Below 1 means the default, as in llama-server.
    {"dry_base", plain_field::number, 0, 1000, SET(if (v >= 1) r.sampling.dry_base = static_cast<float>(v))},
    {"dry_allowed_length", plain_field::integer, 0, int32_max, SAMPLING_INT(dry_allowed_length)},
    {"dry_penalty_last_n", plain_field::integer, 0, int32_max, SAMPLING_INT(dry_penalty_last_n)},
    {"mirostat", plain_field::integer, 0, 2, SAMPLING_INT(mirostat), true},
    {"mirostat_tau", plain_field::number, 0, 1000, SAMPLING_FLOAT(mirostat_tau)},
    {"mirostat_eta", plain_field::number, 0, 1000, SAMPLING_FLOAT(mirostat_eta)},
    {"adaptive_target", plain_field::number, -1000, 1, SAMPLING_FLOAT(adaptive_target), true},
    {"adaptive_decay", plain_field::number, 0, 0.99, SAMPLING_FLOAT(adaptive_decay)},
    {"n_probs", plain_field::integer, 0, request_limits::n_probs,
     SET(r.n_logprobs = v > 0 ? static_cast<int32_t>(v) : -1)},
    {"min_keep", plain_field::integer, 0, int32_max, SAMPLING_INT(min_keep)},
    {"ignore_eos", plain_field::boolean, 0, 1, SET(r.sampling.ignore_eos = v != 0)},
    {"reasoning_control", plain_field::boolean, 0, 1, SET(r.sampling.reasoning_control = v != 0)},
    {"thinking_budget_tokens", plain_field::integer, -1, int32_max, SET(r.reasoning.budget = static_cast<int32_t>(v))},
    {"reasoning_budget_soft", plain_field::integer, -1, int32_max, SET(r.reasoning.soft = static_cast<int32_t>(v))},
    {"reasoning_budget_tokens", plain_field::integer, -1, int32_max, SET(r.reasoning.budget = static_cast<int32_t>(v))},
};

// Of the table, what may change while a request runs.
constexpr const char * changeable[] = {
    "max_tokens",
    "max_completion_tokens",
    "n_predict",
    "t_max_predict_ms",
    "temperature",
    "dynatemp_range",
    "dynatemp_exponent",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
    "top_n_sigma",
    "xtc_probability",
    "xtc_threshold",
    "repeat_last_n",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "dry_multiplier",
    "dry_base",
    "dry_allowed_length",
    "dry_penalty_last_n",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
    "adaptive_target",
    "adaptive_decay",
    "min_keep",
    "ignore_eos",
};
// And of the fields with a function of their own.
constexpr const char * changeable_lists[] = {"seed", "stop", "logit_bias", "samplers", "dry_sequence_breakers"};

template <size_t n>
bool is_one_of(const std::string & name, const char * const (&names)[n]) {
    return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

#undef SAMPLING_FLOAT
#undef SAMPLING_INT
#undef SET

double read_plain(const plain_field & field, const common_json & value) {
    if (field.clamped && value.is_number()) {
        const auto number = value.get<double>();
        if (!(number >= field.min && number <= field.max)) {
            return number > field.max ? field.max : field.min;
        }
    }
    switch (field.type) {
        case plain_field::boolean: return as_bool(value, field.name) ? 1 : 0;
        case plain_field::integer:
            return static_cast<double>(
                as_integer(value, field.name, static_cast<int64_t>(field.min), static_cast<int64_t>(field.max)));
        case plain_field::number: break;
    }
    return as_number(value, field.name, field.min, field.max);
}

}  // namespace

void read_chat_logprobs(const common_json & body, generation_request & request) {
    const common_json * logprobs = find_field(body, "logprobs");
    const common_json * top = find_field(body, "top_logprobs");
    if (logprobs != nullptr && as_bool(*logprobs, "logprobs")) {
        request.n_logprobs = 0;
    }
    if (top != nullptr) {
        const auto n = static_cast<int32_t>(as_integer(*top, "top_logprobs", 0, request_limits::n_logprobs));
        if (logprobs == nullptr || !logprobs->get<bool>()) {
            throw bad_request("'top_logprobs' requires 'logprobs' to be true", "top_logprobs");
        }
        request.n_logprobs = n;
    }
    request.sampling.n_probs = std::max(request.n_logprobs, 0);
}

namespace {

std::string read_salt(const common_json & value) {
    std::string salt = as_string(value, "cache_salt");
    if (salt.empty() || salt.size() > request_limits::cache_salt_bytes || salt.find('\0') != std::string::npos) {
        throw bad_request("'cache_salt' must have 1 to " + std::to_string(request_limits::cache_salt_bytes) +
                              " bytes, and none of them 0",
                          "cache_salt");
    }
    return salt;
}

}  // namespace

void take_schema(const common_json & schema, const std::string & field, generation_request & request) {
    check_schema(as_object(schema, field), field);
    request.schema_field = field;
    request.json_schema = schema.empty() ? R"({"type":"object"})" : schema.dump();
}

void read_constraint(const common_json & body, generation_request & request) {
    if (const common_json * schema = find_field(body, "json_schema")) {
        take_schema(*schema, "json_schema", request);
    }
    if (const common_json * grammar = find_field(body, "grammar")) {
        request.grammar = as_string(*grammar, "grammar");
    }
}

void read_plain_fields(const model & model, const common_json & body, generation_request & request) {
    const common_params & params = model.params();
    request.sampling = params.sampling;
    request.n_predict = params.n_predict;
    request.cache_prompt = params.cache_prompt;
    request.sse_ping_interval = params.sse_ping_interval;
    request.n_keep = params.n_keep;
    request.n_cache_reuse = params.n_cache_reuse;
    request.verbose = params.verbosity > verbosity_of_answers;
    request.reasoning = {-1, params.sampling.reasoning_budget_message, -1};

    for (const plain_field & field : plain_fields) {
        if (const common_json * value = find_field(body, field.name)) {
            field.set(request, read_plain(field, *value));
        }
    }
    if (const common_json * lora = find_field(body, "lora")) {
        // As in llama-server, an empty list is none.
        request.lora =
            lora->is_array() && lora->empty() ? nullptr : read_lora(*lora, params.lora_adapters.size(), "lora");
    }
    if (const common_json * salt = find_field(body, "cache_salt")) {
        request.cache_salt = read_salt(*salt);
    }
    read_reasoning(params, body, request);
    if (const common_json * options = find_field(body, "stream_options")) {
        if (const common_json * usage = find_field(as_object(*options, "stream_options"), "include_usage")) {
            request.include_usage = as_bool(*usage, "stream_options.include_usage");
        }
    }
    for (const char * name : {"n", "n_cmpl"}) {
        if (const common_json * value = find_field(body, name)) {
            request.n_choices = static_cast<int32_t>(as_integer(*value, name, 1, static_cast<int64_t>(int32_max)));
            request.choices_field = name;
        }
    }
    request.sampling.n_probs = std::max(request.n_logprobs, 0);
    read_seed(body, request);
    read_stop(model, body, request);
    read_logit_bias(model, body, request);
    read_samplers(body, request);
    read_sequence_breakers(body, request);
}

void read_changes(const model & model, const common_json & body, generation_request & request) {
    constexpr const char * not_fields[] = {"id", "action", "choice", "model"};
    bool any = false;
    for (const auto & entry : body.items()) {
        const std::string name = entry.k;
        if (is_one_of(name, not_fields)) {
            continue;
        }
        if (!is_one_of(name, changeable) && !is_one_of(name, changeable_lists)) {
            throw bad_request("'" + name + "' is nothing that can change while a completion runs", name);
        }
        any = any || !entry.v.is_null();
    }
    if (!any) {
        throw bad_request("the action 'sampling' needs a field to change, such as 'temperature'", "action");
    }
    for (const plain_field & field : plain_fields) {
        const common_json * value = is_one_of(field.name, changeable) ? find_field(body, field.name) : nullptr;
        if (value != nullptr) {
            field.set(request, read_plain(field, *value));
        }
    }
    if (find_field(body, "seed") != nullptr) {
        read_seed(body, request);
    }
    if (find_field(body, "stop") != nullptr) {
        read_stop(model, body, request);
    }
    read_logit_bias(model, body, request);
    read_samplers(body, request);
    read_sequence_breakers(body, request);
}

}  // namespace pyllama
