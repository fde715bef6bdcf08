// Text to tokens, safe for any text. llama.cpp splits a text by regular expressions before it tokenises, and for
// many vocabularies by std::regex, whose recursion is as deep as the longest match: text with few breaks would
// overflow an ordinary stack, and that ends the process. Any thread may call.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "common.h"
#include "llama.h"

namespace pyllama {

struct tokenize_limits {
    // Longest unbroken text, in characters, that is tokenised at all.
    static constexpr size_t n_unbroken = size_t{1} << 20;
    // Longest unbroken text that is tokenised on the caller's stack.
    static constexpr size_t n_on_caller = 2048;
    // libstdc++'s std::regex was measured to take 320 bytes of stack a character, for each of llama.cpp's
    // expressions. AddressSanitizer puts a guard around each variable.
#ifdef __SANITIZE_ADDRESS__
    static constexpr size_t stack_bytes_per_character = 4096;
#else
    static constexpr size_t stack_bytes_per_character = 512;
#endif
};

// An upper bound, in characters, of what one match of a splitting expression can cover: none goes on past a line
// feed but by white space, and characters outside ASCII may be white space. Linear.
size_t longest_unbroken(std::string_view text);

// Throws error(invalid_request) for text that `vocab` cannot be trusted with; `field` is named.
void check_unbroken(const llama_vocab * vocab, std::string_view text, const std::string & field);

// Runs `body` on a stack that is deep enough to tokenise text of that many unbroken characters: the caller's, or
// that of a short-lived thread. Exceptions arrive here. Throws error(engine) when the system has no thread to give.
void with_stack_for(size_t n_unbroken, const std::function<void()> & body);

// Tokens of valid UTF-8. Throws error(invalid_request) with the field named for text that is too long, or too long
// without a break; error(unsupported) when the model has no tokenizer, or lacks a special token it wants to add.
llama_tokens tokenize(const llama_vocab * vocab, std::string_view text, bool add_special, bool parse_special,
                      const std::string & field);

// Whether one of the tokens is an end of generation.
bool ends_generation(const llama_vocab * vocab, const llama_tokens & tokens);

// Tokens of text that becomes a part of an answer: none is a control token, whatever the text says. Throws as
// tokenize(), and error(invalid_request) when one would end the generation.
llama_tokens tokenize_answer(const llama_vocab * vocab, std::string_view text, const std::string & field);

}  // namespace pyllama
