// Budgets whose last tokens seek the end of the reasoning.
#include <string>

#include "check.h"
#include "scripted_generation.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

llama_token token_of(const char * text) {
    const auto tokens = tokens_of(text);
    CHECK_EQ(tokens.size(), 1u);
    return tokens.front();
}

struct vocabulary {
    llama_token word = token_of("I");
    llama_token end_tag = token_of("</think>");
    llama_token stop = token_of(".");
    llama_token line_feed = token_of("\n");
};

const vocabulary & words() {
    static const vocabulary made;
    return made;
}

// Says a word while the end tag is `distance` less likely, until the block is closed; the number of words.
int n_words_until_the_end(int32_t budget, int32_t soft, float distance, bool & forced) {
    scripted it(greedy(), {budget, "", soft}, true);
    int n = 0;
    while (it.running->reasons()) {
        CHECK(n <= budget);
        it.say_likeliest({{words().word, 50.0f}, {words().end_tag, 50.0f - distance}});
        n += it.running->tokens()[it.running->tokens().size() - static_cast<size_t>(it.running->n_fresh())] ==
             words().word;
    }
    forced = it.running->n_fresh() > 1;
    return n;
}

}  // namespace

TEST(the_end_tag_grows_likelier_to_the_last_token) {
    bool forced = false;
    // 12 over 10 tokens: the sixth of them has 7.2 more.
    CHECK_EQ(n_words_until_the_end(20, 10, 7.0f, forced), 15);
    CHECK(!forced);
    CHECK_EQ(n_words_until_the_end(20, 10, 11.9f, forced), 19);
    CHECK(!forced);
    CHECK_EQ(n_words_until_the_end(20, 10, 0.5f, forced), 10);
    // A landing that is longer than the budget is all of it.
    CHECK_EQ(n_words_until_the_end(10, 1000, 7.0f, forced), 5);
    CHECK(!forced);
}

TEST(the_budget_holds_where_the_model_goes_on) {
    bool forced = false;
    CHECK_EQ(n_words_until_the_end(20, 10, 40.0f, forced), 20);
    CHECK(forced);
    CHECK_EQ(n_words_until_the_end(1, 1, 40.0f, forced), 1);
    CHECK(forced);
}

TEST(without_a_landing_nothing_is_likelier) {
    bool forced = false;
    for (const int32_t soft : {-1, 0}) {
        CHECK_EQ(n_words_until_the_end(20, soft, 0.5f, forced), 20);
        CHECK(forced);
    }
}

TEST(the_second_half_of_a_landing_ends_with_a_sentence) {
    scripted it(greedy(), {10, "Enough.", 6}, true);
    for (const llama_token token :
         {words().word, words().word, words().word, words().word, words().stop, words().word}) {
        it.say(token);
        CHECK(it.running->reasons());  // in the first half it goes on
    }
    it.say(words().word);
    CHECK(it.running->reasons());
    it.say(words().stop);
    CHECK(!it.running->reasons());
    CHECK_EQ(it.running->n_budget_used(), 8);
    CHECK_EQ(it.end().text, "IIII.II.Enough.\n</think>\n\n");
}

TEST(a_line_s_end_is_one_too) {
    scripted it(greedy(), {4, "", 4}, true);
    for (const llama_token token : {words().word, words().word, words().line_feed}) {
        CHECK(it.running->reasons());
        it.say(token);
    }
    CHECK(!it.running->reasons());
}

TEST(a_budget_that_changes_moves_its_landing) {
    scripted it(greedy(), {3, "", 2}, true);
    it.say(words().word);
    it.set_budget(10);
    it.say(words().stop);
    it.say(words().stop);
    CHECK(it.running->reasons());
    it.set_budget(4);
    CHECK(!it.running->reasons());
    scripted other(greedy(), {3, "", 2}, true);
    other.set_budget(reasoning_budget::unlimited);
    for (int i = 0; i < 10; ++i) {
        other.say(words().stop);
    }
    CHECK(other.running->reasons());
}

TEST(logprobs_are_the_model_s_while_it_lands) {
    auto params = greedy();
    params.n_logprobs = 1;
    generation_params landing = params;
    landing.reasoning = make_reasoning_params(*demo_model(), {"<think>", {"</think>"}, true}, {4, "", 4});
    slot_sampler sampler(demo_model()->vocab(), landing);
    std::vector<float> row(static_cast<size_t>(demo_model()->n_vocab()), 0.0f);
    row[static_cast<size_t>(words().word)] = 50.0f;
    row[static_cast<size_t>(words().end_tag)] = 49.0f;
    CHECK_EQ(sampler.sample(row.data()), words().end_tag);
    CHECK_EQ(sampler.logprobs(row.data(), words().end_tag, 1).top.front().token, words().word);
}
