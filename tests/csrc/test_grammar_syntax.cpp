// What is a grammar: as llama.cpp's own parser sees it.
#include "grammar_syntax.h"

#include <string>

#include "check.h"
#include "engine_fixture.h"
#include "errors.h"
#include "grammar_check.h"
#include "log_sink.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

bool is_token(std::string_view text) {
    llama_token tokens[2];
    return llama_tokenize(demo_model()->vocab(), text.data(), static_cast<int32_t>(text.size()), tokens, 2, false,
                          true) == 1;
}

std::string mistake_in(std::string_view grammar) {
    const auto found = find_grammar_mistake(grammar, is_token);
    return found ? std::to_string(found->line) + ":" + std::to_string(found->column) + " " + found->reason : "";
}

// Why llama.cpp's parser refuses it, empty when it does not. What it says of rules comes behind the parser.
bool is_parsed(const std::string & grammar) {
    const log_capture logged;
    llama_sampler * made = llama_sampler_init_grammar(demo_model()->vocab(), grammar.c_str(), "root");
    const bool parsed = made != nullptr || logged.text().find("failed to parse") == std::string::npos;
    if (made != nullptr) {
        llama_sampler_free(made);
    }
    return parsed;
}

bool is_harmless(const std::string & grammar) {
    try {
        check_grammar_text(grammar, "grammar");
        return true;
    } catch (const error &) {
        return false;
    }
}

const std::vector<std::string> & grammars() {
    static const std::vector<std::string> all = {
        "root ::= \"yes\" | \"no\"",
        "# words\nroot  ::= word (\" \" word){0,3} \".\"\nword ::= [a-z]+ # one\n",
        "root ::= (\n  \"a\" | [^\\n\\x41-\\x5a-]\n)* tail?\r\ntail ::= \"\\u00e9\\\"\" .\n",
        "root ::= ((\"a\"{2}){3}){4,} x-1\nx-1 ::= \"\" | [\\]\\[]{1,9}",
        "root ::= <think> !</think>* <[5]>\n",
        "root ::= item{0} item{0,2} | \"\"\nitem ::= \"- \" [^\\r\\n]+ \"\\n\"",
    };
    return all;
}

}  // namespace

TEST(grammars_are_grammars) {
    for (const std::string & grammar : grammars()) {
        CHECK_EQ(mistake_in(grammar), "");
        CHECK(is_parsed(grammar));
    }
}

TEST(a_mistake_has_a_place) {
    CHECK_EQ(mistake_in(""), "1:1 it has no rule");
    CHECK_EQ(mistake_in("root = \"a\""), "1:6 expected '::='");
    CHECK_EQ(mistake_in("root ::= a\na ::= ("), "2:8 expected ')'");
    CHECK_EQ(mistake_in("root ::= \"a\" nowhere"), "1:14 there is no rule 'nowhere'");
    CHECK_EQ(mistake_in("root ::= \"\\q\""), "1:11 this escape is not known");
    CHECK_EQ(mistake_in("root ::= \"\\x4\""), "1:14 expected 2 hexadecimal digits");
    CHECK_EQ(mistake_in("root ::= *"), "1:10 there is nothing to repeat");
    CHECK_EQ(mistake_in("root ::= \"a\"{2001}"), "1:19 this repeats more than 2000 times");
    CHECK_EQ(mistake_in("root ::= (\"a\"{0,100}){100}"), "1:22 this makes more than 2000 rules");
    CHECK_EQ(mistake_in("root ::= <no such token>"), "1:10 this is not one token of the model");
    CHECK_EQ(mistake_in("root ::= \"a"), "1:12 it ends within quotes or brackets");
}

TEST(any_text_is_judged_as_the_parser_judges_it) {
    const std::string parts = "root ::= \"ab\" | ( ) [^a-c] * + ? { } , 1 2 # \n \r\\ x u41 . ! < > think </think> - ";
    random_source random(7);
    int n_grammars = 0;
    int n_mistakes = 0;
    for (int i = 0; i < 6000; ++i) {
        std::string text = grammars()[random.below(static_cast<uint32_t>(grammars().size()))];
        for (uint32_t n = 1 + random.below(3); n > 0; --n) {
            const size_t at = random.below(static_cast<uint32_t>(text.size() + 1));
            const size_t from = random.below(static_cast<uint32_t>(parts.size()));
            switch (random.below(3)) {
                case 0: text.insert(at, parts.substr(from, 1 + random.below(4))); break;
                case 1: text.erase(at, 1 + random.below(3)); break;
                default:
                    if (at < text.size()) {
                        text[at] = parts[from];
                    }
            }
        }
        if (!is_harmless(text)) {
            continue;
        }
        const std::string mistake = mistake_in(text);
        ++(mistake.empty() ? n_grammars : n_mistakes);
        if (mistake.empty() != is_parsed(text)) {
            CHECK_EQ(mistake + "\n" + text, "");
        }
    }
    CHECK(n_grammars > 500);
    CHECK(n_mistakes > 500);
}
