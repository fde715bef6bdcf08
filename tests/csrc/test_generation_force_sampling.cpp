// Forced text and what samples: grammars, penalties, random numbers, logprobs and stop strings take it as the model's.
#include <cctype>
#include <cmath>
#include <string>

#include "check.h"
#include "scripted_generation.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

generation_params with_grammar(const std::string & text) {
    auto params = greedy();
    params.sampling.grammar = common_grammar(COMMON_GRAMMAR_TYPE_USER, text);
    return params;
}

}  // namespace

TEST(forced_text_has_no_probabilities) {
    auto params = greedy();
    params.n_logprobs = 0;
    scripted it(params, {1, ""});
    it.say("<think>");
    it.say("I");
    it.say("42");
    const auto & said = it.end();
    for (size_t i = 0; i < said.tokens.size(); ++i) {
        CHECK_EQ(said.with_logprobs[i], i < 2 || i >= 2 + it.forced.size());
    }
}

TEST(forced_text_is_no_stop_string) {
    auto params = greedy();
    params.stop = {"IEnough", "Enough", "now.\n</think>\n\n4", "24"};
    scripted it(params, {1, "Enough now."});
    it.say("<think>");
    it.say("I");  // held back: a stop string may begin here
    CHECK(it.say("42"));
    CHECK(!it.say("4"));
    CHECK_EQ(it.end().text, "<think>IEnough now.\n</think>\n\n4");
    CHECK_EQ(it.end().reason, "stop 24");
}

TEST(penalties_see_forced_text) {
    auto params = greedy();
    params.sampling.penalty_last_n = 64;
    params.sampling.penalty_present = 2000.0f;  // more than the scripted model's preference
    scripted it(params, {1, "Enough"});
    it.say("<think>");
    it.say("I");
    const llama_token word = it.forced.front();
    it.say(word);
    CHECK(it.running->tokens().back() != word);
}

TEST(random_numbers_do_not_move_with_forced_text) {
    // A flat distribution: each sampled token tells where the random numbers are.
    const auto draws = [](bool force) {
        generation_params params;
        params.sampling.seed = 5;
        params.sampling.top_k = 0;
        params.sampling.min_p = 0.0f;
        params.sampling.top_p = 1.0f;
        // The answer's own tokens are never tags, so that nothing but the request opens or ends a block.
        for (const char * tag : {"<think>", "</think>", "<|im_end|>"}) {
            params.sampling.logit_bias.push_back({tokens_of(tag).front(), -INFINITY});
        }
        scripted it(params, {-1, ""}, true);
        const std::vector<float> flat(static_cast<size_t>(demo_model()->n_vocab()), 0.0f);
        renderer render;
        llama_tokens sampled;
        for (int i = 0; i < 12; ++i) {
            if (force && i == 5) {
                it.ask();
                CHECK(it.told.size() <= 1);
            }
            it.running->sample(flat.data());
            it.running->advance(render);
            CHECK(!it.running->failure());
            const auto & tokens = it.running->tokens();
            // Forced text may wait for a character, and then follows the token that completes it.
            const size_t n_after = static_cast<size_t>(it.running->n_fresh()) - 1;
            sampled.push_back(tokens[tokens.size() - 1 - n_after]);
        }
        CHECK_EQ(it.running->reasons(), !force);
        return sampled;
    };
    CHECK(draws(true) == draws(false));
}

TEST(a_grammar_that_allows_the_end_goes_on_after_it) {
    scripted it(with_grammar("root ::= \"<think>\" [a-zA-Z. ]* \"\\n</think>\\n\\n\" [0-9]+"), {-1, "Enough."});
    it.say("<think>");
    it.say("I");
    it.ask();
    CHECK(it.told[0].outcome == force_outcome::applied);
    it.say("I");  // not allowed any more: a digit comes instead
    CHECK(!it.running->failure());
    const std::string text = it.end().text;
    CHECK_EQ(text.substr(0, text.size() - 1), "<think>IEnough.\n</think>\n\n");
    CHECK(std::isdigit(text.back()));
}

TEST(a_grammar_may_allow_the_bare_tag_alone) {
    scripted it(with_grammar("root ::= \"<think>\" [a-zA-Z]* \"</think>\" [0-9]+"), {1, ""});
    it.say("<think>");
    it.say("I");
    CHECK(!it.running->reasons());
    it.say("4");
    CHECK_EQ(it.end().text, "<think>I</think>4");
}

TEST(a_grammar_that_refuses_the_end_is_told_and_nothing_breaks) {
    scripted it(with_grammar("root ::= \"<think>\" \"I\" \"I\" \"</think>\" [0-9]+"), {-1, ""});
    it.say("<think>");
    it.say("I");
    it.ask();
    CHECK(it.told[0].outcome == force_outcome::refused);
    CHECK(it.told[0].message.find("grammar") != std::string::npos);
    it.set_budget(1);  // as soon as the grammar allows it
    CHECK(it.running->reasons());
    it.say("I");
    CHECK(!it.running->reasons());
    it.say("4");
    CHECK(!it.running->failure());
    CHECK_EQ(it.end().text, "<think>II</think>4");
}

TEST(an_end_that_was_refused_does_not_come_later) {
    scripted it(with_grammar("root ::= \"<think>\" \"II\" [I]* \"</think>\" [0-9]+"), {-1, ""});
    it.say("<think>");
    it.say("I");
    it.ask();
    CHECK(it.told[0].outcome == force_outcome::refused);
    it.say("I");
    CHECK(it.running->reasons());
    CHECK_EQ(it.told.size(), 1u);
    it.ask();
    CHECK(it.told[1].outcome == force_outcome::applied);
}

TEST(a_grammar_that_refuses_the_message_half_way_is_as_it_was) {
    scripted it(with_grammar("root ::= \"<think>\" [a-zA-Z]* \"</think>\" [0-9]+"), {-1, "No!"});
    it.say("<think>");
    it.say("I");
    it.ask();
    CHECK(it.told[0].outcome == force_outcome::refused);
    it.say("</think>");
    it.say("4");
    CHECK(!it.running->failure());
    CHECK_EQ(it.end().text, "<think>I</think>4");
}

TEST(a_lazy_grammar_triggers_after_a_forced_end_and_not_inside) {
    auto params = greedy();
    params.sampling.grammar = common_grammar(COMMON_GRAMMAR_TYPE_TOOL_CALLS, "root ::= \"<tool_call>\" [0-9]+");
    params.sampling.grammar_lazy = true;
    const auto trigger = tokens_of("<tool_call>");
    CHECK_EQ(trigger.size(), 1u);
    common_grammar_trigger on;
    on.type = COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN;
    on.token = trigger.front();
    params.sampling.grammar_triggers = {on};
    scripted it(params, {2, ""});
    it.say("<think>");
    it.say("<tool_call>");
    it.say("I");
    CHECK(!it.running->reasons());
    it.say("<tool_call>");
    it.say("I");  // not allowed now
    CHECK(!it.running->failure());
    const std::string text = it.end().text;
    CHECK_EQ(text.substr(0, text.size() - 1), "<think><tool_call>I\n</think>\n\n<tool_call>");
    CHECK(std::isdigit(text.back()));
}
