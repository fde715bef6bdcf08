#include "prompt_tokens.h"

#include <algorithm>
#include <iterator>

#include "errors.h"
#include "media_source.h"
#include "projector.h"
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

media_prompt tokenize_prompt(const model & model, const common_json & value, int32_t n_ctx, const std::string & field) {
    if (!value.is_object()) {
        return {tokenize_mixed(model, value, true, true, field), {}};
    }
    const std::string text_field = field + ".prompt_string";
    const common_json * data = find_field(value, "multimodal_data");
    if (data == nullptr) {
        return {tokenize_mixed(model, required(value, "prompt_string", field), true, true, text_field), {}};
    }
    const std::string data_field = field + ".multimodal_data";
    if (!model.media() || !model.media()->reads_images()) {
        throw bad_request("'" + field + "' has multimodal data, and this model reads text only", field);
    }
    std::vector<media_file> files;
    for (size_t i = 0; i < as_array(*data, data_field).size(); ++i) {
        const std::string name = indexed(data_field, i);
        add_media(read_media(model, as_string(data->at(i), name), name), files);
    }
    const std::string text = as_string(required(value, "prompt_string", field), text_field);
    return model.media()->tokenize(model.vocab(), text, files, n_ctx, text_field);
}

std::vector<media_prompt> tokenize_prompts(const model & model, const common_json & value, size_t most, int32_t n_ctx,
                                           const std::string & field) {
    std::vector<media_prompt> prompts;
    if (is_one_prompt(value)) {
        prompts.push_back(tokenize_prompt(model, value, n_ctx, field));
        return prompts;
    }
    if (value.empty()) {
        throw bad_request("'" + field + "' must not be empty", field);
    }
    if (value.size() > most) {
        throw bad_request("'" + field + "' has more than " + std::to_string(most) + " prompts", field);
    }
    for (size_t i = 0; i < value.size(); ++i) {
        prompts.push_back(tokenize_prompt(model, value.at(i), n_ctx, indexed(field, i)));
    }
    return prompts;
}

std::string prompt_text(const model & model, const llama_tokens & tokens) {
    if (!has_media(tokens)) {
        return common_detokenize(model.vocab(), tokens, true);
    }
    llama_tokens text;
    std::remove_copy_if(tokens.begin(), tokens.end(), std::back_inserter(text), is_media);
    return common_detokenize(model.vocab(), text, true);
}

}  // namespace pyllama
