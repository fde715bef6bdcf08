// Guards in front of llama.cpp's recursive parsers: what passes here cannot exhaust a thread's stack.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <memory>
#include <set>
#include <vector>

#include "errors.h"
#include "request.h"

namespace pyllama {

void check_json_depth(std::string_view json, int limit, const std::string & field) {
    int depth = 0;
    std::vector<size_t> n_members;  // per open object or list
    std::vector<bool> is_object;
    bool in_string = false;
    for (size_t i = 0; i < json.size(); ++i) {
        const char c = json[i];
        if (in_string) {
            if (c == '\\') {
                ++i;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > limit) {
                throw bad_request((field.empty() ? "the request body" : "'" + field + "'") + " nests deeper than " +
                                      std::to_string(limit) + " levels",
                                  field);
            }
            n_members.push_back(1);
            is_object.push_back(c == '{');
        } else if (c == ']' || c == '}') {
            --depth;
            if (!n_members.empty()) {
                n_members.pop_back();
                is_object.pop_back();
            }
        } else if (c == ',' && !is_object.empty() && is_object.back() &&
                   ++n_members.back() > request_limits::n_json_members) {
            // llama-common keeps members in a list: the time they take grows with the square of their number.
            throw bad_request((field.empty() ? "the request body" : "'" + field + "'") +
                                  " has an object with more than " + std::to_string(request_limits::n_json_members) +
                                  " members",
                              field);
        }
    }
}

namespace {

// The nesting of `node` is bounded by the body's own limit.
void scan_schema(const common_json & node, const std::string & field, std::set<std::string> & refs) {
    if (node.is_array()) {
        for (const common_json & child : node) {
            scan_schema(child, field, refs);
        }
    } else if (node.is_object()) {
        if (node.size() > request_limits::n_schema_properties) {
            throw bad_request("'" + field + "' has an object with more than " +
                                  std::to_string(request_limits::n_schema_properties) + " members",
                              field);
        }
        for (const auto & entry : node.items()) {
            if (entry.k == "$ref" && entry.v.is_string()) {
                refs.insert(entry.v.get<std::string>());
            }
            scan_schema(entry.v, field, refs);
        }
    }
}

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

void check_schema(const common_json & schema, const std::string & field) {
    std::set<std::string> refs;
    scan_schema(schema, field, refs);
    if (refs.size() > request_limits::n_schema_refs) {
        throw bad_request(
            "'" + field + "' has more than " + std::to_string(request_limits::n_schema_refs) + " references", field);
    }
    if (schema.dump().size() > request_limits::schema_bytes) {
        throw bad_request("'" + field + "' is larger than " + std::to_string(request_limits::schema_bytes) + " bytes",
                          field);
    }
}

void check_grammar(const model & model, const std::string & grammar, const std::string & field) {
    if (grammar.size() > request_limits::grammar_bytes) {
        throw bad_request(
            "'" + field + "' gives a grammar larger than " + std::to_string(request_limits::grammar_bytes) + " bytes",
            field);
    }
    if (grammar.rfind("%llguidance", 0) == 0) {
        throw bad_request("'" + field + "' is an llguidance grammar, which this build does not know", field);
    }
    if (grammar.find('\0') != std::string::npos) {
        throw bad_request("'" + field + "' gives a grammar with a null character", field);
    }
    const grammar_shape shape = measure_grammar(grammar);
    if (shape.depth > request_limits::grammar_depth) {
        throw bad_request("'" + field + "' nests parentheses deeper than " +
                              std::to_string(request_limits::grammar_depth) + " levels",
                          field);
    }
    if (shape.backward_repetition) {
        throw bad_request("'" + field + "' has a repetition whose most is below its least", field);
    }
    if (shape.n_rules > request_limits::n_grammar_rules) {
        throw bad_request("'" + field + "' gives a grammar of more than " +
                              std::to_string(request_limits::n_grammar_rules) + " rules",
                          field);
    }
    std::unique_ptr<llama_sampler, decltype(&llama_sampler_free)> compiled(nullptr, llama_sampler_free);
    try {
        compiled.reset(llama_sampler_init_grammar(model.vocab(), grammar.c_str(), "root"));
    } catch (const std::exception & e) {
        throw bad_request("'" + field + "' is not a usable grammar: " + e.what(), field);
    }
    if (!compiled) {
        throw bad_request("'" + field + "' is not a usable grammar (it needs a rule 'root', and no left recursion)",
                          field);
    }
}

}  // namespace pyllama
