#include "sampling_fields.h"

#include <cmath>

#include "errors.h"
#include "sampling.h"
#include "tokenize.h"

namespace pyllama {

void read_seed(const common_json & body, generation_request & request) {
    const common_json * value = find_field(body, "seed");
    if (value == nullptr) {
        request.random_seed = request.sampling.seed == LLAMA_DEFAULT_SEED;
        return;
    }
    constexpr int64_t max = int64_t{1} << 53;
    const int64_t seed = as_integer(*value, "seed", -max, max);
    request.random_seed = seed < 0 || seed == LLAMA_DEFAULT_SEED;
    request.sampling.seed = static_cast<uint32_t>(seed ^ (seed >> 32));
}

void take_stop(const common_json & value, const std::string & field, generation_request & request) {
    const auto add = [&](const common_json & text_value, const std::string & name) {
        std::string text = as_string(text_value, name);
        if (text.size() > request_limits::stop_bytes) {
            throw bad_request("'" + name + "' is longer than " + std::to_string(request_limits::stop_bytes) + " bytes",
                              name);
        }
        if (!text.empty()) {
            request.stop.push_back(std::move(text));
        }
    };
    request.stop.clear();
    if (value.is_string()) {
        add(value, field);
    } else if (value.is_array()) {
        if (value.size() > request_limits::n_stop) {
            throw bad_request("'" + field + "' has more than " + std::to_string(request_limits::n_stop) + " strings",
                              field);
        }
        for (size_t i = 0; i < value.size(); ++i) {
            add(value.at(i), indexed(field, i));
        }
    } else {
        wrong_type(field, "a string or a list of strings");
    }
}

void read_stop(const model & model, const common_json & body, generation_request & request) {
    if (const common_json * value = find_field(body, "stop")) {
        take_stop(*value, "stop", request);
    }
    if (request.stop.empty()) {
        request.stop = model.params().antiprompt;
    }
}

namespace {

void add_bias(const model & model, const common_json & key, const common_json & value, generation_request & request) {
    const std::string field = "logit_bias";
    float bias = -INFINITY;
    if (value.is_number()) {
        bias = static_cast<float>(as_number(value, field, -1e9, 1e9));
    } else if (!value.is_boolean() || value.get<bool>()) {
        wrong_type(field, "a list of [token, bias] or an object of token: bias, where bias is a number or false");
    }
    auto & biases = request.sampling.logit_bias;
    if (key.is_number()) {
        biases.push_back({static_cast<llama_token>(as_integer(key, field, 0, model.n_vocab() - 1)), bias});
    } else {
        for (const llama_token token : tokenize(model.vocab(), as_string(key, field), false, false, field)) {
            biases.push_back({token, bias});
        }
    }
    if (biases.size() > 2 * static_cast<size_t>(model.n_vocab())) {
        throw bad_request("'logit_bias' has more entries than the vocabulary has tokens", field);
    }
}

}  // namespace

void read_logit_bias(const model & model, const common_json & body, generation_request & request) {
    if (const common_json * value = find_field(body, "logit_bias")) {
        request.sampling.logit_bias.clear();
        if (value->is_array()) {
            for (const common_json & pair : *value) {
                if (!pair.is_array() || pair.size() != 2) {
                    wrong_type("logit_bias", "a list of [token, bias] or an object of token: bias");
                }
                add_bias(model, pair.at(size_t{0}), pair.at(size_t{1}), request);
            }
        } else {
            for (const auto & entry : as_object(*value, "logit_bias").items()) {
                const bool is_id = !entry.k.empty() && entry.k.size() < 10 &&
                                   entry.k.find_first_not_of("0123456789") == std::string::npos;
                add_bias(model, is_id ? common_json(std::stoi(entry.k)) : common_json(entry.k), entry.v, request);
            }
        }
    }
    if (request.sampling.ignore_eos) {
        const auto & eog = request.sampling.logit_bias_eog;
        request.sampling.logit_bias.insert(request.sampling.logit_bias.end(), eog.begin(), eog.end());
    }
}

namespace {

constexpr common_sampler_type sampler_types[] = {
    COMMON_SAMPLER_TYPE_DRY,         COMMON_SAMPLER_TYPE_TOP_K,      COMMON_SAMPLER_TYPE_TOP_P,
    COMMON_SAMPLER_TYPE_MIN_P,       COMMON_SAMPLER_TYPE_TYPICAL_P,  COMMON_SAMPLER_TYPE_TEMPERATURE,
    COMMON_SAMPLER_TYPE_XTC,         COMMON_SAMPLER_TYPE_INFILL,     COMMON_SAMPLER_TYPE_PENALTIES,
    COMMON_SAMPLER_TYPE_TOP_N_SIGMA, COMMON_SAMPLER_TYPE_ADAPTIVE_P,
};

// "Top-K", "top_k" and "topk" are one name.
std::string plain_name(const std::string & name) {
    std::string plain;
    for (const char c : name) {
        if (c != '-' && c != '_') {
            plain += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
        }
    }
    return plain;
}

// llama-common has both look-ups, but writes what it does not know into the log: a client's text, line feeds
// included. NONE: there is no such sampler.
common_sampler_type sampler_of(char letter) {
    for (const common_sampler_type type : sampler_types) {
        if (letter == common_sampler_type_to_chr(type)) {
            return type;
        }
    }
    return COMMON_SAMPLER_TYPE_NONE;
}

common_sampler_type sampler_of(const std::string & name) {
    std::string wanted = plain_name(name);
    wanted = wanted == "nucleus" ? "topp" : wanted == "temp" ? "temperature" : wanted == "typ" ? "typp" : wanted;
    for (const common_sampler_type type : sampler_types) {
        if (wanted == plain_name(common_sampler_type_to_str(type))) {
            return type;
        }
    }
    return COMMON_SAMPLER_TYPE_NONE;
}

}  // namespace

void read_samplers(const common_json & body, generation_request & request) {
    const common_json * value = find_field(body, "samplers");
    if (value == nullptr) {
        return;
    }
    if (value->is_string() ? value->get<std::string>().size() > 64 : as_array(*value, "samplers").size() > 64) {
        throw bad_request("'samplers' has more than 64 entries", "samplers");
    }
    std::vector<common_sampler_type> samplers;
    const auto add = [&](common_sampler_type found) {
        if (found == COMMON_SAMPLER_TYPE_NONE) {
            throw bad_request("'samplers' names an unknown sampler", "samplers");
        }
        samplers.push_back(found);
    };
    if (value->is_string()) {
        for (const char c : value->get<std::string>()) {
            add(sampler_of(c));
        }
    } else {
        for (const common_json & name : *value) {
            add(sampler_of(as_string(name, "samplers")));
        }
    }
    request.sampling.samplers = std::move(samplers);
}

void read_sequence_breakers(const common_json & body, generation_request & request) {
    const common_json * value = find_field(body, "dry_sequence_breakers");
    if (value == nullptr) {
        return;
    }
    const size_t n = as_array(*value, "dry_sequence_breakers").size();
    if (n == 0 || n > 64) {
        throw bad_request("'dry_sequence_breakers' must hold 1 to 64 strings", "dry_sequence_breakers");
    }
    request.sampling.dry_sequence_breakers.clear();
    for (const common_json & breaker : *value) {
        request.sampling.dry_sequence_breakers.push_back(as_string(breaker, "dry_sequence_breakers"));
    }
}

}  // namespace pyllama
