#include "request_embedding.h"

#include <algorithm>
#include <limits>

#include "errors.h"
#include "media_source.h"
#include "projector.h"
#include "prompt_settings.h"
#include "prompt_tokens.h"
#include "request.h"
#include "request_json.h"
#include "tokenize.h"

namespace pyllama {

namespace {

// {"content": [{"type": "text", "text": ...}, {"type": "image_url", ...}, ...]}
media_prompt tokenize_parts(const model & model, const common_json & content, int32_t n_ctx,
                            const std::string & field) {
    std::string text;
    std::vector<media_file> files;
    for (size_t i = 0; i < as_array(content, field).size(); ++i) {
        const std::string name = indexed(field, i);
        const common_json & part = as_object(content.at(i), name);
        const std::string type = as_string(required(part, "type", name), name + ".type");
        if (type == "image_url") {
            text += image_projector(model, type, name).marker();
            add_media(read_image_url(model, part, name), files);
        } else if (type == "text") {
            text += as_string(required(part, "text", name), name + ".text");
        } else {
            throw bad_request("'" + name + "' is of type '" + type + "', and this model does not read that", name);
        }
    }
    if (files.empty()) {
        return {tokenize(model.vocab(), text, true, true, field), {}};
    }
    return model.media()->tokenize(model.vocab(), text, files, n_ctx, field);
}

media_prompt tokenize_input(const model & model, const common_json & value, int32_t n_ctx, const std::string & field) {
    if (value.is_object() && value.contains("content")) {
        return tokenize_parts(model, value.at("content"), n_ctx, field + ".content");
    }
    return tokenize_prompt(model, value, n_ctx, field);
}

std::vector<media_prompt> tokenize_inputs(const model & model, const common_json & value, int32_t n_ctx,
                                          const std::string & field) {
    std::vector<media_prompt> inputs;
    if (is_one_prompt(value)) {
        inputs.push_back(tokenize_input(model, value, n_ctx, field));
        return inputs;
    }
    if (value.empty()) {
        throw bad_request("'" + field + "' must not be empty", field);
    }
    if (value.size() > request_limits::n_inputs) {
        throw bad_request("'" + field + "' has more than " + std::to_string(request_limits::n_inputs) + " inputs",
                          field);
    }
    for (size_t i = 0; i < value.size(); ++i) {
        inputs.push_back(tokenize_input(model, value.at(i), n_ctx, indexed(field, i)));
    }
    return inputs;
}

void take_inputs(std::vector<media_prompt> && inputs, const std::string & field, const embedding_limits & limits,
                 embedding_request & request) {
    const bool has_media =
        std::any_of(inputs.begin(), inputs.end(), [](const media_prompt & each) { return !each.media.empty(); });
    if (has_media && !limits.media) {
        throw bad_request("'" + field + "' has images, and this model makes embeddings of text only", field);
    }
    for (media_prompt & each : inputs) {
        request.inputs.push_back(std::move(each.tokens));
        if (has_media) {
            request.media.push_back(std::move(each.media));
        }
    }
}

// What does not fit would end the process, or be pooled in parts.
void check_inputs(const std::vector<llama_tokens> & inputs, const std::string & field,
                  const embedding_limits & limits) {
    for (const llama_tokens & tokens : inputs) {
        const auto n = static_cast<int64_t>(tokens.size());
        if (n == 0) {
            throw bad_request("'" + field + "' has an input without tokens", field);
        }
        if (!limits.can_split && n > limits.n_ubatch) {
            throw bad_request("input (" + std::to_string(n) +
                                  " tokens) is too large to process: increase the physical batch size (current batch "
                                  "size: " +
                                  std::to_string(limits.n_ubatch) + ")",
                              field);
        }
        if (n > limits.n_ctx) {
            throw context_exceeded(n, limits.n_ctx);
        }
    }
}

// Rows for each token grow with the text, and with the model.
void check_rows(const model & model, const std::vector<llama_tokens> & inputs, const std::string & field,
                const embedding_limits & limits) {
    if (limits.pooling != LLAMA_POOLING_TYPE_NONE) {
        return;
    }
    size_t n = 0;
    for (const llama_tokens & tokens : inputs) {
        n += tokens.size();
    }
    const size_t most = request_limits::n_floats / static_cast<size_t>(llama_model_n_embd_out(model.handle()));
    if (n > most) {
        throw bad_request("'" + field + "' has " + std::to_string(n) + " tokens, and without pooling " +
                              std::to_string(most) + " are the most",
                          field);
    }
}

std::string name_of(const model & model, const common_json & body) {
    const common_json * name = find_field(body, "model");
    return name != nullptr ? as_string(*name, "model") : model.name();
}

// The query and a document as the model was trained to read them: its own template, or the special tokens that it
// wants around two texts.
class pair_format {
  public:
    // The query is read once; what does not fit is refused before it is repeated for each document.
    pair_format(const model & model, const std::string & query, int32_t n_ctx) : vocab_(model.vocab()), query_(query) {
        check_size(model, query, n_ctx);
        if (const char * text = llama_model_chat_template(model.handle(), "rerank")) {
            template_ = text;
        }
        query_tokens_ = tokenize(vocab_, query, false, false, "query");
        if (query_tokens_.size() > static_cast<size_t>(n_ctx)) {
            throw context_exceeded(static_cast<int64_t>(query_tokens_.size()), n_ctx);
        }
    }

    llama_tokens tokens(const std::string & document, const std::string & field) const {
        if (!template_.empty()) {
            std::string prompt = template_;
            string_replace_all(prompt, "{query}", query_);
            string_replace_all(prompt, "{document}", document);
            return tokenize(vocab_, prompt, false, true, field);
        }
        llama_token end = llama_vocab_eos(vocab_);
        end = end != LLAMA_TOKEN_NULL ? end : llama_vocab_sep(vocab_);
        llama_tokens pair;
        add(pair, llama_vocab_get_add_bos(vocab_), llama_vocab_bos(vocab_));
        add(pair, query_tokens_);
        add(pair, llama_vocab_get_add_eos(vocab_), end);
        add(pair, llama_vocab_get_add_sep(vocab_), llama_vocab_sep(vocab_));
        add(pair, tokenize(vocab_, document, false, false, field));
        add(pair, llama_vocab_get_add_eos(vocab_), end);
        return pair;
    }

  private:
    static void add(llama_tokens & pair, bool wanted, llama_token token) {
        if (wanted && token != LLAMA_TOKEN_NULL) {
            pair.push_back(token);
        }
    }
    static void add(llama_tokens & pair, const llama_tokens & text) {
        pair.insert(pair.end(), text.begin(), text.end());
    }

    const llama_vocab * vocab_;
    std::string query_;
    llama_tokens query_tokens_;
    std::string template_;
};

}  // namespace

embedding_request parse_embedding_request(const model & model, std::string_view body, dialect dialect,
                                          const embedding_limits & limits) {
    if (!limits.enabled) {
        throw error(error_kind::unsupported, "This server does not support embeddings. Start it with `--embeddings`");
    }
    if (dialect == dialect::openai && limits.pooling == LLAMA_POOLING_TYPE_NONE) {
        throw bad_request("Pooling type 'none' is not OAI compatible. Please use a different pooling type");
    }
    const common_json parsed = parse_body(body);
    const bool named_input = find_field(parsed, "input") != nullptr;
    if (!named_input && find_field(parsed, "content") == nullptr) {
        throw bad_request("\"input\" or \"content\" must be provided", "input");
    }
    embedding_request request;
    request.native = dialect == dialect::native || !named_input;
    request.model = name_of(model, parsed);
    request.normalize = model.params().embd_normalize;
    if (const common_json * format = find_field(parsed, "encoding_format")) {
        const std::string name = as_string(*format, "encoding_format");
        if (name != "float" && name != "base64") {
            throw bad_request("'encoding_format' must be float or base64, but is '" + name + "'", "encoding_format");
        }
        request.base64 = name == "base64";
    }
    if (const common_json * kind = find_field(parsed, "embd_normalize")) {
        request.normalize = static_cast<int32_t>(as_integer(*kind, "embd_normalize", -1, 1024));
    }
    const char * field = named_input ? "input" : "content";
    take_inputs(tokenize_inputs(model, parsed.at(field), limits.n_ctx, field), field, limits, request);
    check_inputs(request.inputs, field, limits);
    check_rows(model, request.inputs, field, limits);
    return request;
}

rerank_request parse_rerank_request(const model & model, std::string_view body, const embedding_limits & limits) {
    if (!limits.enabled || limits.pooling != LLAMA_POOLING_TYPE_RANK) {
        throw error(error_kind::unsupported, "This server does not support reranking. Start it with `--reranking`");
    }
    const common_json parsed = parse_body(body);
    rerank_request request;
    request.model = name_of(model, parsed);
    request.tei = parsed.contains("texts");
    const bool named_documents = find_field(parsed, "documents") != nullptr;
    const char * field = named_documents || !request.tei ? "documents" : "texts";
    const std::string query = as_string(required(parsed, "query", ""), "query");
    const common_json & documents = as_array(required(parsed, field, ""), field);
    if (documents.empty() || documents.size() > request_limits::n_inputs) {
        throw bad_request(
            "'" + std::string(field) + "' must hold 1 to " + std::to_string(request_limits::n_inputs) + " strings",
            field);
    }
    request.top_n = documents.size();
    if (const common_json * most = find_field(parsed, "top_n")) {
        const auto n = as_integer(*most, "top_n", 0, std::numeric_limits<int32_t>::max());
        request.top_n = std::min(request.top_n, static_cast<size_t>(n));
    }
    const common_json * return_text = find_field(parsed, "return_text");
    const bool with_texts = request.tei && return_text != nullptr && as_bool(*return_text, "return_text");

    const pair_format pairs(model, query, limits.n_ctx);
    for (size_t i = 0; i < documents.size(); ++i) {
        const std::string name = indexed(field, i);
        std::string text = as_string(documents.at(i), name);
        request.inputs.push_back(pairs.tokens(text, name));
        if (with_texts) {
            request.texts.push_back(std::move(text));
        }
    }
    check_inputs(request.inputs, field, limits);
    return request;
}

}  // namespace pyllama
