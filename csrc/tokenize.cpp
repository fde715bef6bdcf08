#include "tokenize.h"

#include <algorithm>
#include <exception>
#include <limits>

#include "errors.h"
#include "thread.h"

namespace pyllama {

namespace {

// For everything else on the stack: what an ordinary thread has.
constexpr size_t base_stack_bytes = size_t{8} << 20;

// Special tokens that a broken model lacks are an assertion in llama.cpp, which ends the process.
void check_specials(const llama_vocab * vocab) {
    const bool wordpiece = llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_WPM;
    if (((wordpiece || llama_vocab_get_add_bos(vocab)) && llama_vocab_bos(vocab) < 0) ||
        (llama_vocab_get_add_eos(vocab) && llama_vocab_eos(vocab) < 0) ||
        ((wordpiece || llama_vocab_get_add_sep(vocab)) && llama_vocab_sep(vocab) < 0)) {
        throw error(error_kind::unsupported, "the model adds a special token that it does not have");
    }
}

llama_tokens call_tokenizer(const llama_vocab * vocab, std::string_view text, bool add_special, bool parse_special,
                            const std::string & field) {
    const auto n_bytes = static_cast<int32_t>(text.size());
    // A token covers at least one byte, but for special ones and the spaces that some tokenizers put in.
    llama_tokens tokens(text.size() + 16);
    while (true) {
        const int32_t n = llama_tokenize(vocab, text.data(), n_bytes, tokens.data(),
                                         static_cast<int32_t>(tokens.size()), add_special, parse_special);
        if (n >= 0) {
            tokens.resize(static_cast<size_t>(n));
            return tokens;
        }
        if (n == std::numeric_limits<int32_t>::min()) {
            throw bad_request("a text of " + std::to_string(text.size()) + " bytes is too long", field);
        }
        tokens.resize(static_cast<size_t>(-static_cast<int64_t>(n)));
    }
}

}  // namespace

size_t longest_unbroken(std::string_view text) {
    size_t n_line = 0;   // characters since the last line feed
    size_t n_space = 0;  // characters since the last one that is surely no white space
    size_t longest_line = 0;
    size_t longest_space = 0;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if ((byte & 0xC0) == 0x80) {
            continue;  // the rest of a character
        }
        n_line = byte == '\n' ? 0 : n_line + 1;
        n_space = byte >= 0x80 || byte == ' ' || (byte >= '\t' && byte <= '\r') ? n_space + 1 : 0;
        longest_line = std::max(longest_line, n_line);
        longest_space = std::max(longest_space, n_space);
    }
    return longest_line + longest_space;
}

void check_unbroken(const llama_vocab * vocab, std::string_view text, const std::string & field) {
    if (llama_vocab_type(vocab) != LLAMA_VOCAB_TYPE_BPE || text.size() <= tokenize_limits::n_unbroken) {
        return;  // only byte-pair tokenizers split by expressions
    }
    const size_t n = longest_unbroken(text);
    if (n > tokenize_limits::n_unbroken) {
        throw bad_request((field.empty() ? "the text" : "'" + field + "'") + " has " + std::to_string(n) +
                              " characters without a line break, of which this tokenizer takes at most " +
                              std::to_string(tokenize_limits::n_unbroken),
                          field);
    }
}

void with_stack_for(size_t n_unbroken, const std::function<void()> & body) {
    if (n_unbroken <= tokenize_limits::n_on_caller) {
        body();
        return;
    }
    thread_options options;
    options.name = "pyllama-prepare";
    options.stack_bytes = base_stack_bytes + n_unbroken * tokenize_limits::stack_bytes_per_character;
    std::exception_ptr failure;
    named_thread thread(options, [&] {
        try {
            body();
        } catch (...) {
            failure = std::current_exception();
        }
    });
    thread.join();
    if (failure) {
        std::rethrow_exception(failure);
    }
}

llama_tokens tokenize(const llama_vocab * vocab, std::string_view text, bool add_special, bool parse_special,
                      const std::string & field) {
    const enum llama_vocab_type type = llama_vocab_type(vocab);
    if (type == LLAMA_VOCAB_TYPE_NONE) {
        throw error(error_kind::unsupported, "the model has no tokenizer");
    }
    if (add_special) {
        check_specials(vocab);
    }
    if (text.size() > size_t{1} << 30) {
        throw bad_request("a text of " + std::to_string(text.size()) + " bytes is longer than 1 GiB", field);
    }
    check_unbroken(vocab, text, field);
    const bool short_text = type != LLAMA_VOCAB_TYPE_BPE || text.size() <= tokenize_limits::n_on_caller;
    llama_tokens tokens;
    with_stack_for(short_text ? 0 : longest_unbroken(text),
                   [&] { tokens = call_tokenizer(vocab, text, add_special, parse_special, field); });
    return tokens;
}

llama_tokens tokenize_answer(const llama_vocab * vocab, std::string_view text, const std::string & field) {
    llama_tokens tokens = tokenize(vocab, text, false, false, field);
    if (ends_generation(vocab, tokens)) {
        throw bad_request("'" + field + "' contains an end-of-generation token", field);
    }
    return tokens;
}

bool ends_generation(const llama_vocab * vocab, const llama_tokens & tokens) {
    return std::any_of(tokens.begin(), tokens.end(),
                       [&](llama_token token) { return llama_vocab_is_eog(vocab, token); });
}

}  // namespace pyllama
