// Guards in front of llama.cpp's recursive parsers: what passes here cannot exhaust a thread's stack.
#include <memory>
#include <set>
#include <vector>

#include "errors.h"
#include "grammar_check.h"
#include "grammar_syntax.h"
#include "log_sink.h"
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
    check_grammar_text(grammar, field);
    const auto is_token = [&](std::string_view text) {
        llama_token tokens[2];
        return llama_tokenize(model.vocab(), text.data(), static_cast<int32_t>(text.size()), tokens, 2, false, true) ==
               1;
    };
    if (const auto mistake = find_grammar_mistake(grammar, is_token)) {
        throw bad_request("'" + field + "' is not a usable grammar: line " + std::to_string(mistake->line) +
                              ", column " + std::to_string(mistake->column) + ": " + mistake->reason,
                          field);
    }
    const log_capture quiet;
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
