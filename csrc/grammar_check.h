// What keeps a GBNF grammar from harming llama.cpp's parser, which recurses and trusts its input. Pure; any thread.
#pragma once

#include <cstddef>
#include <string>

namespace pyllama {

struct grammar_limits {
    static constexpr size_t bytes = 1 << 20;
    static constexpr int depth = 128;  // nesting of parentheses
    static constexpr size_t n_rules = 8192;
};

// Throws error(invalid_request) naming `field` for a grammar that is too large, too deep, or that the parser would
// not come to an end with. A grammar that passes may still not parse.
void check_grammar_text(const std::string & grammar, const std::string & field);

}  // namespace pyllama
