#include "grammar_check.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "errors.h"

namespace pyllama {

namespace {

struct grammar_shape {
    int depth = 0;  // deepest nesting of parentheses
    size_t n_rules = 0;
    bool backward_repetition = false;  // {3,1}: llama.cpp's parser would not come to an end
};

// Reads the repetition that starts at `at`, a '{'.
bool runs_backward(const std::string & grammar, size_t at) {
    size_t i = at + 1;
    const auto number = [&](double otherwise) {
        double value = 0;
        bool any = false;
        for (; i < grammar.size() && (std::isdigit(static_cast<unsigned char>(grammar[i])) || grammar[i] == ' '); ++i) {
            if (grammar[i] != ' ') {
                value = value * 10 + (grammar[i] - '0');
                any = true;
            }
        }
        return any ? value : otherwise;
    };
    const double least = number(0);
    if (i >= grammar.size() || grammar[i] != ',') {
        return false;
    }
    ++i;
    return number(HUGE_VAL) < least;
}

// Looks past literals, character classes and comments as llama.cpp's GBNF parser does.
grammar_shape measure_grammar(const std::string & grammar) {
    grammar_shape shape;
    int depth = 0;
    char closing = 0;
    for (size_t i = 0; i < grammar.size(); ++i) {
        const char c = grammar[i];
        if (closing != 0) {
            if (c == '\\' && closing != '\n') {
                ++i;
            } else if (c == closing) {
                closing = 0;
            }
            continue;
        }
        switch (c) {
            case '"': closing = '"'; break;
            case '[': closing = ']'; break;
            case '#': closing = '\n'; break;
            case '(': shape.depth = std::max(shape.depth, ++depth); break;
            case ')': --depth; break;
            case '=': ++shape.n_rules; break;
            case '{': shape.backward_repetition |= runs_backward(grammar, i); break;
            default: break;
        }
    }
    return shape;
}

}  // namespace

void check_grammar_text(const std::string & grammar, const std::string & field) {
    if (grammar.size() > grammar_limits::bytes) {
        throw bad_request(
            "'" + field + "' gives a grammar larger than " + std::to_string(grammar_limits::bytes) + " bytes", field);
    }
    if (grammar.rfind("%llguidance", 0) == 0) {
        throw bad_request("'" + field + "' is an llguidance grammar, which this build does not know", field);
    }
    if (grammar.find('\0') != std::string::npos) {
        throw bad_request("'" + field + "' gives a grammar with a null character", field);
    }
    const grammar_shape shape = measure_grammar(grammar);
    if (shape.depth > grammar_limits::depth) {
        throw bad_request(
            "'" + field + "' nests parentheses deeper than " + std::to_string(grammar_limits::depth) + " levels",
            field);
    }
    if (shape.backward_repetition) {
        throw bad_request("'" + field + "' has a repetition whose most is below its least", field);
    }
    if (shape.n_rules > grammar_limits::n_rules) {
        throw bad_request(
            "'" + field + "' gives a grammar of more than " + std::to_string(grammar_limits::n_rules) + " rules",
            field);
    }
}

}  // namespace pyllama
