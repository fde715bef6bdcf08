// Whether a text is a GBNF grammar, and where it stops being one. llama.cpp's parser says so too, on the standard
// error, with the text beside it: what a client sends would stand in the server's log. Pure; any thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace pyllama {

struct grammar_mistake {
    size_t line = 1;
    size_t column = 1;  // in bytes
    std::string reason;
};

// is_token(text): whether a name in angle brackets, brackets included, is one token of the vocabulary.
// The nesting must be bounded: see check_grammar_text.
std::optional<grammar_mistake> find_grammar_mistake(std::string_view grammar,
                                                    const std::function<bool(std::string_view)> & is_token);

}  // namespace pyllama
