// A lazy grammar that is told only the tokens around its trigger does what one does that is told all.
#include "grammar_trigger.h"

#include <string>
#include <vector>

#include "backends.h"
#include "check.h"
#include "llama-cpp.h"
#include "sampler_chain.h"
#include "tokenize.h"

using namespace pyllama;
using pyllama_test::random_source;

namespace {

const llama_vocab * vocab() {
    static const llama_model_ptr model = [] {
        load_backends();
        auto params = llama_model_default_params();
        params.vocab_only = true;
        return llama_model_ptr(llama_model_load_from_file(PYLLAMA_VOCAB_GGUF, params));
    }();
    return llama_model_get_vocab(model.get());
}

common_params_sampling lazy(const std::vector<std::string> & words, const llama_tokens & tokens) {
    common_params_sampling sampling;
    sampling.grammar =
        common_grammar(COMMON_GRAMMAR_TYPE_TOOL_CALLS, R"(root ::= ("<tool" | "[call]" | "a") [^!]* "!")");
    sampling.grammar_lazy = true;
    for (const std::string & word : words) {
        sampling.grammar_triggers.push_back({COMMON_GRAMMAR_TRIGGER_TYPE_WORD, word});
    }
    for (const llama_token token : tokens) {
        sampling.grammar_triggers.push_back({COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN, "", token});
    }
    return sampling;
}

// What the grammar thinks of a few tokens.
std::string opinion(llama_sampler * grammar) {
    std::string allowed;
    for (const llama_token token : {0, 1, 2, 5, 27, 33, 64, 65, 198, 220, 1000, 14506, 128001}) {
        llama_token_data one{token, 1.0f, 0.0f};
        llama_token_data_array array{&one, 1, -1, false};
        llama_sampler_apply(grammar, &array);
        allowed += one.logit > 0 ? '+' : '-';
    }
    return allowed;
}

// False once the grammar refuses what it is told.
bool tell(llama_sampler * grammar, const llama_tokens & tokens) {
    try {
        for (const llama_token token : tokens) {
            llama_sampler_accept(grammar, token);
        }
    } catch (const std::exception &) {
        return false;
    }
    return true;
}

}  // namespace

TEST(the_grammar_is_the_same_as_one_that_is_told_everything) {
    static const char * const parts[] = {"<tool", "<to", "ol", "_call>",       "[call]",      "[ca", "ll]",
                                         " so",   "\n",  "a",  "<tool_call>x", "ll]\xC3\xA9", "[",   "<"};
    size_t n_triggered = 0;
    for (uint32_t seed = 0; seed < 300; ++seed) {
        random_source random(seed);
        const llama_tokens trigger_tokens =
            random.one_in(4) ? tokenize(vocab(), "a", false, false, "") : llama_tokens();
        const auto sampling = lazy(random.one_in(2) ? std::vector<std::string>{"<tool_call>", "[call]"}
                                                    : std::vector<std::string>{"<tool", "<tool_call>x"},
                                   trigger_tokens);
        const llama_sampler_ptr all = make_grammar_sampler(vocab(), sampling);
        const llama_sampler_ptr some = make_grammar_sampler(vocab(), sampling);
        grammar_trigger trigger(sampling);
        std::string text;
        for (int i = 0; i < 12; ++i) {
            text += parts[random.below(std::size(parts))];
        }
        llama_tokens tokens = tokenize(vocab(), text, false, false, "");
        size_t n_told = 0;
        bool goes_on = true;
        for (size_t i = 0; i < tokens.size() && goes_on; ++i) {
            const llama_tokens told = trigger.advance(tokens[i], common_token_to_piece(vocab(), tokens[i], true));
            n_told += told.size();
            goes_on = tell(all.get(), {tokens[i]});
            CHECK_EQ(tell(some.get(), told), goes_on);
            if (goes_on) {
                CHECK_EQ(opinion(some.get()), opinion(all.get()));
            }
        }
        n_triggered += n_told > 0 ? 1 : 0;
    }
    CHECK(n_triggered > 150 && n_triggered < 300);
}

TEST(little_is_kept_while_it_waits) {
    const auto sampling = lazy({"<tool_call>"}, {});
    grammar_trigger trigger(sampling);
    for (int i = 0; i < 10000; ++i) {
        CHECK(trigger.advance(64, i % 3 == 0 ? "<tool" : " word").empty());
    }
    CHECK(trigger.advance(64, "<tool_ca").empty());
    CHECK_EQ(trigger.advance(65, "ll>").size(), 3u);  // those of the last ten bytes, and this one
    CHECK_EQ(trigger.advance(66, "x").size(), 1u);
}

TEST(other_triggers_hold_nothing_back) {
    auto sampling = lazy({"<tool_call>"}, {});
    sampling.grammar_triggers.push_back({COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN, "x+"});
    grammar_trigger pattern(sampling);
    CHECK_EQ(pattern.advance(64, "a").size(), 1u);
    sampling.grammar_lazy = false;
    sampling.grammar_triggers.clear();
    grammar_trigger eager(sampling);
    CHECK_EQ(eager.advance(64, "a").size(), 1u);
}
