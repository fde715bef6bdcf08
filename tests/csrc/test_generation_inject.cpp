// Text that a client puts into one generation, without an engine: when it goes in, where, and who is told.
#include <string>
#include <vector>

#include "check.h"
#include "scripted_generation.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

const std::string euro = "\xE2\x82\xAC";

generation_params with_grammar(const std::string & text) {
    auto params = greedy();
    params.sampling.grammar = common_grammar(COMMON_GRAMMAR_TYPE_USER, text);
    return params;
}

}  // namespace

TEST(text_goes_in_at_once_behind_a_whole_character) {
    scripted it(greedy(), {-1, ""});
    it.say("I");
    it.inject(" was here.");
    CHECK_EQ(it.told.size(), 1u);
    CHECK(it.told[0].outcome == force_outcome::applied);
    CHECK_EQ(it.told[0].position, 1);
    CHECK_EQ(it.told[0].n_tokens, tokens_of(" was here.").size());
    CHECK_EQ(it.running->n_fresh(), 1 + it.told[0].n_tokens);
    CHECK_EQ(it.running->n_generated(), 1 + it.told[0].n_tokens);
    it.say("42");
    CHECK_EQ(it.running->n_fresh(), 1);
    CHECK_EQ(it.end().text, "I was here.42");
}

TEST(text_waits_for_the_rest_of_a_character) {
    scripted it(greedy(), {-1, ""});
    const auto bytes = tokens_of(euro);
    it.say(bytes[0]);
    it.inject("A");
    it.inject("B");
    CHECK(it.told.empty());
    it.say(bytes[1]);
    CHECK(it.told.empty());
    it.say(bytes[2]);
    CHECK_EQ(it.told.size(), 2u);
    CHECK_EQ(it.told[0].position, 3);
    CHECK_EQ(it.told[1].position, 4);
    CHECK_EQ(it.end().text, euro + "AB");
}

TEST(a_character_that_never_ends_is_not_waited_for) {
    scripted it(greedy(), {-1, ""});
    const llama_token begun = tokens_of(euro)[0];
    it.say(begun);
    it.inject("A");
    for (int i = 0; i < reasoning_budget::n_wait_max; ++i) {
        CHECK(it.told.empty());
        it.say(begun);
    }
    CHECK(it.told.at(0).outcome == force_outcome::applied);
}

TEST(held_text_leaves_first_and_no_stop_string_matches_inside_or_across) {
    auto params = greedy();
    params.stop = {"IEnough", "Enough", "now.4", "24"};
    scripted it(params, {-1, ""});
    it.say("I");  // held back: a stop string may begin here
    it.inject("Enough now.");
    CHECK(it.say("42"));
    CHECK(!it.say("4"));
    CHECK_EQ(it.end().text, "IEnough now.4");
    CHECK_EQ(it.end().reason, "stop 24");
}

TEST(before_the_first_token_texts_go_with_the_prompt_in_their_order) {
    scripted it(greedy(), {-1, ""});
    it.inject("One");
    it.inject(" two.");
    CHECK_EQ(it.told[0].position, 0);
    CHECK_EQ(it.told[1].position, tokens_of("One").size());
    CHECK_EQ(it.running->tokens().size(), 1 + tokens_of("One").size() + tokens_of(" two.").size());
    it.say("42");
    CHECK_EQ(it.end().text, "One two.42");
}

TEST(before_the_first_token_text_follows_an_end_of_the_reasoning) {
    scripted it(greedy(), {-1, ""}, true);
    it.inject("I think.");
    it.ask();
    it.inject("I am.");
    CHECK_EQ(it.told.size(), 3u);
    CHECK_EQ(it.told[1].position, tokens_of("I think.").size());
    it.say("42");
    CHECK_EQ(it.end().text, "I think.\n</think>\n\nI am.42");
}

TEST(what_was_asked_for_inside_a_character_happens_in_its_order) {
    scripted it(greedy(), {-1, ""});
    const auto bytes = tokens_of(euro);
    it.say("<think>");
    it.say(bytes[0]);
    it.inject("A");
    it.ask();
    it.inject("B");
    it.say(bytes[1]);
    it.say(bytes[2]);
    CHECK_EQ(it.told.size(), 3u);
    CHECK_EQ(it.end().text, "<think>" + euro + "A\n</think>\n\nB");
}

TEST(tags_in_the_text_do_what_the_model_s_would) {
    scripted it(greedy(), {-1, ""});
    it.ask();
    CHECK(it.told[0].outcome == force_outcome::armed);
    it.inject("<think>No");  // opens the block that is to end
    CHECK_EQ(it.told.size(), 3u);
    CHECK(it.told[2].outcome == force_outcome::applied);
    CHECK(!it.running->reasons());
    it.say("<think>");
    it.say(tokens_of(euro)[0]);
    it.ask();
    it.say(tokens_of(euro)[1]);
    it.say(tokens_of(euro)[2]);
    CHECK_EQ(it.end().text, "<think>No\n</think>\n\n<think>" + euro + "\n</think>\n\n");

    scripted other(greedy(), {-1, ""}, true);
    other.say("I");
    other.inject("Enough.</think>");
    CHECK(!other.running->reasons());
    CHECK_EQ(other.running->n_budget_used(), 1);
    other.ask();
    CHECK(other.told[1].outcome == force_outcome::refused);
}

TEST(text_costs_no_budget) {
    scripted it(greedy(), {2, ""}, true);
    it.say("I");
    it.inject(" think, and think, and think.");
    CHECK(it.running->reasons());
    it.say("I");
    CHECK(!it.running->reasons());
}

TEST(a_grammar_that_allows_the_text_goes_on_after_it) {
    scripted it(with_grammar("root ::= [a-z]+ \" \" [a-z]+ \"!\""), {-1, ""});
    it.say("a");
    it.inject("b c");
    CHECK(it.told[0].outcome == force_outcome::applied);
    it.say(" ");  // not allowed any more
    CHECK(!it.running->failure());
    const std::string text = it.end().text;
    CHECK_EQ(text.substr(0, 4), "ab c");
    CHECK(text[4] != ' ');
}

TEST(a_grammar_that_refuses_the_text_is_as_it_was) {
    scripted it(with_grammar("root ::= [a-z]+ \"!\""), {-1, ""});
    it.say("a");
    for (const char * text : {"B", "bC", "!x"}) {
        it.inject(text);
        CHECK(it.told.back().outcome == force_outcome::refused);
        CHECK(it.told.back().message.find("grammar") != std::string::npos);
    }
    CHECK_EQ(it.running->n_generated(), 1);
    it.say("b");
    CHECK_EQ(it.end().text, "ab");
}

TEST(text_that_does_not_fit_is_refused_whole) {
    auto params = greedy();
    params.n_predict = 6;
    for (const bool in_context : {false, true}) {
        scripted it(in_context ? greedy() : params, {-1, ""}, false, in_context ? 7 : 4096);
        it.say("I");
        it.inject(llama_tokens(6, tokens_of("I").front()));
        CHECK(it.told[0].outcome == force_outcome::refused);
        CHECK_EQ(it.told[0].message, "the text has 6 tokens, and the answer has room for 5 more");
        it.inject(llama_tokens(5, tokens_of("I").front()));  // fills it
        CHECK(it.told[1].outcome == force_outcome::applied);
        CHECK(it.running->reason() == finish_reason::length);
        it.inject("I");
        CHECK_EQ(it.told[2].message, "the answer has ended");
        CHECK_EQ(it.end().text, "IIIIII");
    }
}

TEST(the_answer_s_end_answers_text_that_waits) {
    scripted it(greedy(), {-1, ""});
    it.say(tokens_of(euro)[0]);
    it.inject("A");
    it.end();
    CHECK_EQ(it.told.size(), 1u);
    CHECK(it.told[0].outcome == force_outcome::refused);
    scripted other(greedy(), {-1, ""});
    other.say(tokens_of(euro)[0]);
    other.inject("A");
    other.fail("out of luck");
    CHECK_EQ(other.told.at(0).message, "the completion has failed");
}

TEST(penalties_see_the_text_and_it_has_no_probabilities) {
    auto params = greedy();
    params.n_logprobs = 0;
    params.sampling.penalty_last_n = 64;
    params.sampling.penalty_present = 2000.0f;  // more than the scripted model's preference
    scripted it(params, {-1, ""});
    it.say("I");
    const auto words = tokens_of("Enough");
    it.inject(words);
    it.say(words.front());
    CHECK(it.running->tokens().back() != words.front());
    const auto & said = it.end();
    for (size_t i = 0; i < said.tokens.size(); ++i) {
        CHECK_EQ(said.with_logprobs[i], i == 0 || i > words.size());
    }
}

TEST(a_completion_that_generates_nothing_takes_no_text) {
    auto params = greedy();
    params.n_predict = 0;
    scripted it(params, {-1, ""});
    it.inject("A");
    CHECK(it.told[0].outcome == force_outcome::refused);
}
