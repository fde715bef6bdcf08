// Ending the reasoning of one generation without an engine: when it happens, where, and who is told.
#include <algorithm>
#include <cctype>
#include <string>
#include <vector>

#include "check.h"
#include "scheduler.h"
#include "scripted_generation.h"

using namespace pyllama;
using namespace pyllama_test;

TEST(the_end_is_written_as_the_template_writes_it) {
    scripted it(greedy(), {1, ""});
    CHECK(it.forced == tokens_of("\n</think>\n\n"));
    CHECK(it.forced_bare == tokens_of("</think>"));
    it.say("<think>");
    it.say("I");
    it.say("42");
    CHECK_EQ(it.end().text, "<think>I\n</think>\n\n42");
}

TEST(an_end_that_is_asked_for_is_applied_at_once) {
    scripted it(greedy(), {-1, "Enough."});
    it.say("<think>");
    it.say("I");
    CHECK_EQ(it.running->n_fresh(), 1);
    it.ask();
    CHECK_EQ(it.told.size(), 1u);
    CHECK(it.told[0].outcome == force_outcome::applied);
    CHECK_EQ(it.told[0].position, 2);
    CHECK_EQ(it.told[0].n_tokens, it.forced.size());
    CHECK_EQ(it.running->n_fresh(), 1 + it.forced.size());
    CHECK(!it.running->reasons());
    it.ask();
    CHECK(it.told[1].outcome == force_outcome::refused);
    it.say("42");
    CHECK_EQ(it.running->n_fresh(), 1);
    CHECK_EQ(it.end().text, "<think>IEnough.\n</think>\n\n42");
}

TEST(an_end_waits_for_the_rest_of_a_character) {
    scripted it(greedy(), {-1, ""});
    const auto bytes = tokens_of("\xE2\x82\xAC");
    CHECK_EQ(bytes.size(), 3u);
    it.say("<think>");
    it.say(bytes[0]);
    it.ask();
    CHECK(it.told.empty());
    it.say(bytes[1]);
    CHECK(it.told.empty());
    it.say(bytes[2]);
    CHECK_EQ(it.told.size(), 1u);
    CHECK_EQ(it.told[0].position, 4);
    CHECK_EQ(it.end().text, "<think>\xE2\x82\xAC\n</think>\n\n");
}

TEST(a_character_that_never_ends_is_not_waited_for_and_not_told) {
    scripted it(greedy(), {-1, ""});
    const llama_token begun = tokens_of("\xE2\x82\xAC")[0];
    it.say("<think>");
    it.say(begun);
    it.ask();
    for (int i = 0; i < reasoning_budget::n_wait_max; ++i) {
        CHECK(it.told.empty());
        it.say(begun);
    }
    CHECK_EQ(it.told.size(), 1u);
    CHECK(it.told[0].outcome == force_outcome::applied);
    const std::string text = it.end().text;
    CHECK_EQ(std::count(text.begin(), text.end(), '\xE2'), reasoning_budget::n_wait_max);
}

TEST(a_budget_waits_for_the_rest_of_a_character) {
    scripted it(greedy(), {2, ""});
    it.say("<think>");
    it.say("I");
    it.say("\xC3\xA9");
    it.say("42");
    CHECK_EQ(it.end().text, "<think>I\xC3\xA9\n</think>\n\n42");
}

TEST(a_natural_end_answers_who_waits) {
    scripted it(greedy(), {-1, ""});
    it.say("<think>");
    it.say(tokens_of("\xC3\xA9")[0]);
    it.ask();
    it.say("</think>");
    CHECK_EQ(it.told.size(), 1u);
    CHECK(it.told[0].outcome == force_outcome::refused);
    CHECK(it.told[0].message.find("by itself") != std::string::npos);
    it.say("<think>");
    CHECK(it.running->reasons());
}

TEST(the_answer_s_end_answers_who_waits) {
    scripted it(greedy(), {-1, ""});
    it.ask();
    CHECK(it.told[0].outcome == force_outcome::armed);
    it.say("42");
    it.end();
    CHECK_EQ(it.told.size(), 2u);
    CHECK(it.told[1].outcome == force_outcome::refused);
}

TEST(a_failure_answers_who_waits_and_keeps_the_text) {
    auto params = greedy();
    params.stop = {"I am"};
    scripted it(params, {-1, ""});
    it.ask();
    it.say("I");  // held back
    const recorded & said = it.fail("out of luck");
    CHECK_EQ(said.text, "I");
    CHECK_EQ(said.reason, "out of luck");
    CHECK_EQ(it.told.size(), 2u);
    CHECK(it.told[1].outcome == force_outcome::refused);
}

TEST(an_end_that_is_asked_for_early_is_armed) {
    scripted it(greedy(), {-1, ""});
    it.ask();
    CHECK(it.told[0].outcome == force_outcome::armed);
    it.say("<think>");
    CHECK(it.told[1].outcome == force_outcome::applied);
    CHECK_EQ(it.told[1].position, 1);
    it.say("<think>");  // once
    CHECK(it.running->reasons());
}

TEST(before_the_first_token_the_text_goes_with_the_prompt) {
    scripted it(greedy(), {-1, ""}, true);
    it.ask();
    CHECK(it.told[0].outcome == force_outcome::applied);
    CHECK_EQ(it.told[0].position, 0);
    CHECK_EQ(it.running->tokens().size(), 1 + it.forced.size());
    it.say("42");
    CHECK_EQ(it.end().text, "\n</think>\n\n42");
}

// A token of at least four letters, and the letters inside it as a tag: no sequence of tokens is that tag there.
TEST(a_tag_inside_of_one_token_is_seen_where_somebody_asked) {
    std::string word;
    llama_token whole = 0;
    for (; whole < demo_model()->n_vocab() && word.empty(); ++whole) {
        const std::string text = demo_model()->piece(whole, false);
        const bool letters = std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isalpha(c); });
        word = letters && text.size() >= 4 ? text.substr(1, text.size() - 2) : "";
    }
    --whole;
    CHECK(!word.empty());
    const reasoning_tags tags{"[think]", {word}, true, true};
    auto opted_in = greedy();
    opted_in.sampling.reasoning_control = true;
    scripted controlled(opted_in, {-1, ""}, tags);
    scripted limited(greedy(), {100, ""}, tags);
    scripted free(greedy(), {-1, ""}, tags);
    for (scripted * each : {&controlled, &limited, &free}) {
        each->say("I");
        CHECK(each->running->reasons());
        each->say(whole);
        CHECK_EQ(each->running->reasons(), each == &free);
    }
    controlled.say("I [think] 4");
    CHECK(controlled.running->reasons());
    // A tag that is a token of its own is no tag when it is spelled out.
    scripted spelled(opted_in, {-1, ""});
    for (const char * part : {"<", "th", "ink", ">"}) {
        spelled.say(part);
    }
    CHECK(!spelled.running->reasons());
    spelled.say("<think>");
    CHECK(spelled.running->reasons());
    for (const char * part : {"<", "/", "think", ">"}) {
        spelled.say(part);
    }
    CHECK(!spelled.running->reasons());
}

TEST(a_block_that_opens_again_ends_at_once) {
    scripted it(greedy(), {2, ""});
    it.say("<think>");
    it.say("I");
    it.say("</think>");
    it.say("<think>");
    it.say("I");
    CHECK(!it.running->reasons());
    it.say("42");
    it.say("<think>");
    CHECK(!it.running->reasons());
    it.set_budget(3);
    it.say("<think>");
    CHECK(it.running->reasons());
    it.set_budget(1);
    CHECK(!it.running->reasons());
    const std::string forced = "\n</think>\n\n";
    CHECK_EQ(it.end().text, "<think>I</think><think>I" + forced + "42<think>" + forced + "<think>" + forced);
}

TEST(outside_the_reasoning_an_end_is_refused) {
    scripted it(greedy(), {-1, ""});
    it.say("42");
    it.ask();
    CHECK(it.told[0].outcome == force_outcome::refused);
    it.end();
    it.ask();
    CHECK(it.told[1].message.find("has ended") != std::string::npos);
}

// Random answers with ends asked for at random times, against a list of what has to happen.
TEST(ends_at_random_times_do_what_the_naive_model_says) {
    const llama_tokens words = tokens_of("I");
    const llama_token open_tag = tokens_of("<think>").front();
    const llama_token close_tag = tokens_of("</think>").front();
    const auto euro = tokens_of("\xE2\x82\xAC");
    for (uint32_t seed = 0; seed < 40; ++seed) {
        random_source random(seed);
        const bool open = random.one_in(3);
        const int32_t budget = random.one_in(2) ? -1 : static_cast<int32_t>(random.below(6));
        scripted it(greedy(), {budget, random.one_in(2) ? "Enough." : ""}, open);
        llama_tokens wanted;  // of the answer
        bool inside = open;
        bool asked = false;
        int32_t n_used = 0;
        size_t n_cut = 0;  // bytes of a character that are still to come
        const auto force = [&] {
            if (inside && n_cut == 0 && (asked || (budget >= 0 && n_used >= budget))) {
                wanted.insert(wanted.end(), it.forced.begin(), it.forced.end());
                inside = false;
                asked = false;
            }
        };
        force();
        for (int i = 0; i < 40; ++i) {
            if (random.one_in(5)) {
                asked = asked || inside || wanted.empty();
                it.ask();
                force();
                CHECK(it.running->tokens().size() == wanted.size() + 1);
            }
            llama_token token = words.front();
            if (n_cut > 0) {
                token = euro[3 - n_cut--];
            } else if (random.one_in(4)) {
                token = inside ? close_tag : open_tag;
            } else if (random.one_in(4)) {
                token = euro[0];
                n_cut = 2;
            }
            it.say(token);
            wanted.push_back(token);
            if (inside && token == close_tag) {
                inside = false;
                asked = false;
            } else if (!inside && token == open_tag) {
                inside = true;
            } else if (inside) {
                ++n_used;
            }
            force();
            CHECK_EQ(it.running->reasons(), inside);
        }
        const auto & tokens = it.running->tokens();
        CHECK(llama_tokens(tokens.begin() + 1, tokens.end()) == wanted);
        CHECK_EQ(it.running->n_budget_used(), n_used);
        CHECK(it.end().tokens == wanted);
        for (const auto & result : it.told) {
            CHECK(result.outcome != force_outcome::applied ||
                  std::equal(it.forced.begin(), it.forced.end(), wanted.begin() + result.position));
        }
    }
}

// An older slot's prefill waits for the forced text, and that for the other slots' single tokens.
TEST(a_step_carries_the_forced_text_with_the_decode_tokens) {
    scripted forced(greedy(), {1, "Enough."});
    forced.say("<think>");
    forced.say("I");
    scripted decoding(greedy(), {-1, ""});
    decoding.say("I");
    scripted prefilling(greedy(), {-1, ""});
    const auto text_size = static_cast<int32_t>(forced.forced.size());
    std::vector<slot> slots(3);
    slots[0].running = std::move(prefilling.running);
    slots[0].assigned = 1;
    slots[1].running = std::move(forced.running);
    slots[1].assigned = 2;
    slots[1].cached.assign(slots[1].running->tokens().begin(), slots[1].running->tokens().begin() + 2);
    slots[2].running = std::move(decoding.running);
    slots[2].cached.assign(slots[2].running->tokens().begin(), slots[2].running->tokens().begin() + 1);
    for (const bool alternate : {false, true}) {
        scheduler whole({64, alternate});
        const auto plan = whole.next(slots);
        CHECK_EQ(plan.size(), alternate ? 2u : 3u);
        CHECK(plan[0].target == &slots[1]);
        CHECK_EQ(plan[0].begin, 2);
        CHECK_EQ(plan[0].end, 3 + text_size);
        CHECK(plan[0].wants_logits);
        CHECK(plan[1].target == &slots[2]);
        CHECK(plan[1].wants_logits);
    }
    scheduler small({4, false});
    const auto plan = small.next(slots);
    CHECK_EQ(plan.size(), 2u);
    CHECK_EQ(plan[0].end, 2 + 1 + 2);  // of four tokens, one is the neighbour's
    CHECK(!plan[0].wants_logits);
    CHECK(plan[1].wants_logits);
}
