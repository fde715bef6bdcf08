#include "infill.h"

#include <algorithm>

#include "errors.h"
#include "prompt_tokens.h"
#include "request.h"
#include "request_json.h"
#include "tokenize.h"

namespace pyllama {

namespace {

void check_markers(const llama_vocab * vocab) {
    std::string missing;
    const auto check = [&](llama_token token, const char * name) {
        if (token == LLAMA_TOKEN_NULL) {
            missing += std::string(missing.empty() ? "" : " ") + name + " token is missing.";
        }
    };
    check(llama_vocab_fim_pre(vocab), "prefix");
    check(llama_vocab_fim_suf(vocab), "suffix");
    check(llama_vocab_fim_mid(vocab), "middle");
    if (!missing.empty()) {
        throw error(error_kind::unsupported, "Infill is not supported by this model: " + missing);
    }
}

void append(llama_tokens & tokens, const llama_tokens & more) {
    tokens.insert(tokens.end(), more.begin(), more.end());
}

class extra_context {
  public:
    explicit extra_context(const llama_vocab * vocab) : vocab_(vocab) {
        if (llama_vocab_fim_rep(vocab) != LLAMA_TOKEN_NULL) {
            tokens_.push_back(llama_vocab_fim_rep(vocab));
            append(tokens_, plain("myproject\n", ""));
        }
    }

    // A file's head: its name behind the separator, or a line that no program holds.
    void open(const std::string & filename, const std::string & field) {
        if (llama_vocab_fim_sep(vocab_) != LLAMA_TOKEN_NULL) {
            tokens_.push_back(llama_vocab_fim_sep(vocab_));
            append(tokens_, plain(filename + "\n", field));
        } else {
            append(tokens_, plain("\n\n--- snip ---\n\n", field));
        }
    }
    void add(const std::string & text, const std::string & field) { append(tokens_, plain(text, field)); }

    const llama_tokens & tokens() const { return tokens_; }

  private:
    llama_tokens plain(const std::string & text, const std::string & field) const {
        return tokenize(vocab_, text, false, false, field);
    }

    const llama_vocab * vocab_;
    llama_tokens tokens_;
};

llama_tokens read_extra(const llama_vocab * vocab, const common_json & body) {
    extra_context extra(vocab);
    if (const common_json * chunks = find_field(body, "input_extra")) {
        if (as_array(*chunks, "input_extra").size() > request_limits::n_prompts) {
            throw bad_request("'input_extra' has more than " + std::to_string(request_limits::n_prompts) + " entries",
                              "input_extra");
        }
        for (size_t i = 0; i < chunks->size(); ++i) {
            const std::string field = indexed("input_extra", i);
            const common_json & chunk = as_object(chunks->at(i), field);
            const std::string text = as_string(required(chunk, "text", field), field + ".text");
            const common_json * name = find_field(chunk, "filename");
            extra.open(name != nullptr ? as_string(*name, field + ".filename") : "tmp", field + ".filename");
            extra.add(text, field + ".text");
        }
    }
    if (llama_vocab_fim_sep(vocab) != LLAMA_TOKEN_NULL) {
        extra.open("filename", "");
    }
    return extra.tokens();
}

}  // namespace

llama_tokens infill_prompt(const model & model, const common_json & body, int32_t n_ctx) {
    const llama_vocab * vocab = model.vocab();
    check_markers(vocab);
    llama_tokens begun;
    if (const common_json * prompt = find_field(body, "prompt")) {
        begun = tokenize(vocab, as_string(*prompt, "prompt"), false, true, "prompt");
    }
    llama_tokens prefix = tokenize_mixed(model, required(body, "input_prefix", ""), false, false, "input_prefix");
    llama_tokens suffix = tokenize_mixed(model, required(body, "input_suffix", ""), false, false, "input_suffix");
    llama_tokens extra = read_extra(vocab, body);

    // As llama-server: a batch for what is around the cursor, three parts of four before it; other files get what the
    // context has left.
    const int64_t n_batch = model.params().n_batch;
    const auto size = [](const llama_tokens & tokens) { return static_cast<int64_t>(tokens.size()); };
    const int64_t n_prefix = std::min(size(prefix), 3 * (n_batch / 4));
    const int64_t n_suffix = std::clamp<int64_t>(n_batch / 4 - (2 + size(begun)), 0, size(suffix));
    const int64_t n_extra =
        std::clamp<int64_t>(n_ctx - n_batch - 2 * int64_t{model.params().n_predict}, 0, size(extra));
    prefix.erase(prefix.begin(), prefix.end() - n_prefix);
    suffix.resize(static_cast<size_t>(n_suffix));
    extra.erase(extra.begin(), extra.end() - n_extra);

    prefix.insert(prefix.begin(), llama_vocab_fim_pre(vocab));
    append(prefix, begun);
    suffix.insert(suffix.begin(), llama_vocab_fim_suf(vocab));
    const bool suffix_first = model.params().spm_infill;
    llama_tokens tokens = std::move(extra);
    if (llama_vocab_get_add_bos(vocab) && llama_vocab_bos(vocab) != LLAMA_TOKEN_NULL) {
        tokens.push_back(llama_vocab_bos(vocab));
    }
    append(tokens, suffix_first ? suffix : prefix);
    append(tokens, suffix_first ? prefix : suffix);
    tokens.push_back(llama_vocab_fim_mid(vocab));
    return tokens;
}

}  // namespace pyllama
