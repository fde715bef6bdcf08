#include "prompt_tokens.h"

#include "errors.h"
#include "request_json.h"
#include "tokenize.h"

namespace pyllama {

llama_token as_token(const model & model, const common_json & value, const std::string & field) {
    return static_cast<llama_token>(as_integer(value, field, 0, model.n_vocab() - 1));
}

llama_tokens tokenize_mixed(const model & model, const common_json & value, bool add_special, bool parse_special,
                            const std::string & field) {
    if (value.is_string()) {
        return tokenize(model.vocab(), value.get<std::string>(), add_special, parse_special, field);
    }
    if (!value.is_array()) {
        wrong_type(field, "a string, or a list of strings and token ids");
    }
    llama_tokens tokens;
    bool first = true;
    for (const common_json & part : value) {
        if (part.is_string()) {
            const llama_tokens added =
                tokenize(model.vocab(), part.get<std::string>(), add_special && first, parse_special, field);
            tokens.insert(tokens.end(), added.begin(), added.end());
        } else {
            tokens.push_back(as_token(model, part, field));
        }
        first = false;
    }
    return tokens;
}

bool is_one_prompt(const common_json & value) {
    if (!value.is_array()) {
        return true;
    }
    for (const common_json & part : value) {
        if (part.is_number()) {
            return true;
        }
    }
    return false;
}

llama_tokens tokenize_prompt(const model & model, const common_json & value, const std::string & field) {
    if (!value.is_object()) {
        return tokenize_mixed(model, value, true, true, field);
    }
    if (find_field(value, "multimodal_data") != nullptr) {
        throw bad_request("'" + field + "' has multimodal data, and this model reads text only", field);
    }
    return tokenize_mixed(model, required(value, "prompt_string", field), true, true, field + ".prompt_string");
}

std::vector<llama_tokens> tokenize_prompts(const model & model, const common_json & value, size_t most,
                                           const std::string & field) {
    if (is_one_prompt(value)) {
        return {tokenize_prompt(model, value, field)};
    }
    if (value.empty()) {
        throw bad_request("'" + field + "' must not be empty", field);
    }
    if (value.size() > most) {
        throw bad_request("'" + field + "' has more than " + std::to_string(most) + " prompts", field);
    }
    std::vector<llama_tokens> prompts;
    prompts.reserve(value.size());
    for (size_t i = 0; i < value.size(); ++i) {
        prompts.push_back(tokenize_prompt(model, value.at(i), indexed(field, i)));
    }
    return prompts;
}

}  // namespace pyllama
