// Our selection in front of llama.cpp's chain must change nothing but the time it takes.
#include "slot_sampler.h"

#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "sampling_fixture.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

void check_equal_to_whole_row(const common_params_sampling & sampling, int n_tokens, uint32_t seed) {
    generation_params params;
    params.sampling = sampling;
    slot_sampler ours(vocab(), params);
    whole_row_sampler theirs(sampling);
    std::mt19937 random(seed);
    for (int i = 0; i < n_tokens; ++i) {
        const auto row = random_row(random);
        const llama_token token = ours.sample(row.data());
        ours.accept(token);
        CHECK_EQ(token, theirs.sample(row));
        theirs.accept(token);
    }
}

}  // namespace

TEST(the_default_chain_gives_the_same_tokens) {
    check_equal_to_whole_row(seeded(1), 40, 11);
}

TEST(a_small_top_k_gives_the_same_tokens) {
    auto sampling = seeded(2);
    sampling.top_k = 3;
    sampling.min_p = 0.0f;
    check_equal_to_whole_row(sampling, 40, 12);
}

TEST(biases_give_the_same_tokens) {
    auto sampling = seeded(3);
    random_source random(3);
    for (llama_token token = 0; token < 60; ++token) {
        sampling.logit_bias.push_back({token * 97, random.one_in(3) ? never : static_cast<float>(random.below(20))});
    }
    check_equal_to_whole_row(sampling, 40, 13);
}

TEST(greedy_gives_the_same_tokens) {
    auto sampling = seeded(4);
    sampling.temp = 0.0f;
    check_equal_to_whole_row(sampling, 20, 14);
    sampling.logit_bias = {{100, 12.0f}, {200, never}};
    check_equal_to_whole_row(sampling, 20, 14);
}

TEST(chains_that_need_the_whole_row_get_it) {
    auto sampling = seeded(6);
    sampling.mirostat = 2;
    check_equal_to_whole_row(sampling, 10, 16);
    sampling = seeded(7);
    sampling.top_k = 0;
    check_equal_to_whole_row(sampling, 5, 17);
}

TEST(penalties_find_what_the_prompt_repeats) {
    std::vector<float> row(static_cast<size_t>(llama_vocab_n_tokens(vocab())), 0.0f);
    row[50] = 2.0f;
    row[60] = 1.0f;
    generation_params params;
    params.sampling.temp = 0.0f;
    params.sampling.penalty_present = 5.0f;
    params.sampling.penalty_last_n = 2;
    const auto choice = [&](const llama_tokens & prompt) {
        return slot_sampler(vocab(), params, prompt).sample(row.data());
    };
    CHECK_EQ(choice({}), 50);
    CHECK_EQ(choice({50}), 60);
    CHECK_EQ(choice({50, 7, 50, 7}), 60);
    CHECK_EQ(choice({50, 7, 8}), 50);
    params.sampling.penalty_present = 0.0f;
    CHECK_EQ(choice({50}), 50);
}

TEST(which_chains_are_greedy) {
    common_params_sampling sampling;
    CHECK(!is_greedy(sampling));
    sampling.temp = 0.0f;
    CHECK(is_greedy(sampling));
    sampling.penalty_present = 0.5f;
    CHECK(!is_greedy(sampling));
    sampling = {};
    sampling.temp = 0.0f;
    sampling.xtc_probability = 0.5f;
    CHECK(!is_greedy(sampling));
}

TEST(what_looks_first_in_a_chain) {
    const auto look = [](const common_params_sampling & sampling) { return head_of(sampling).look; };
    common_params_sampling sampling;
    CHECK(look(sampling) == first_look::top_k);
    sampling.penalty_present = 0.5f;
    CHECK(look(sampling) == first_look::top_k);
    sampling.top_n_sigma = 1.0f;
    CHECK(look(sampling) == first_look::top_n_sigma);
    sampling.dynatemp_range = 0.5f;
    CHECK(look(sampling) == first_look::other);
    sampling = {};
    sampling.top_k = 0;
    CHECK(look(sampling) == first_look::top_p);
    sampling.top_p = 1.0f;
    CHECK(look(sampling) == first_look::min_p);
    sampling.min_p = 0.0f;
    CHECK(look(sampling) == first_look::draw);
    CHECK_EQ(head_of(sampling).before.size(), sampling.samplers.size());
    sampling.dynatemp_range = 0.5f;
    CHECK(look(sampling) == first_look::sorted);
    sampling.typ_p = 0.5f;
    CHECK(look(sampling) == first_look::sorted);
    sampling.mirostat = 2;
    CHECK(look(sampling) == first_look::mirostat_v2);
}

TEST(a_grammar_decides_against_the_likeliest_token) {
    generation_params params;
    params.sampling = seeded(8);
    params.sampling.temp = 0.0f;
    params.sampling.grammar = common_grammar(COMMON_GRAMMAR_TYPE_USER, "root ::= \"yes\" | \"no\"");
    slot_sampler sampler(vocab(), params);
    std::mt19937 random(18);
    std::string text;
    for (int i = 0; i < 20; ++i) {
        const auto row = random_row(random);
        const llama_token token = sampler.sample(row.data());
        sampler.accept(token);
        if (llama_vocab_is_eog(vocab(), token)) {
            break;
        }
        text += common_token_to_piece(vocab(), token, false);
    }
    CHECK(text == "yes" || text == "no");
}

TEST(a_grammar_and_biases_that_allow_nothing_are_an_error) {
    generation_params params;
    params.sampling = seeded(9);
    params.sampling.grammar = common_grammar(COMMON_GRAMMAR_TYPE_USER, "root ::= \"a\"");
    for (llama_token token = 0; token < llama_vocab_n_tokens(vocab()); ++token) {
        const std::string text = common_token_to_piece(vocab(), token, true);
        if (!text.empty() && text[0] == 'a') {
            params.sampling.logit_bias.push_back({token, never});
        }
    }
    slot_sampler sampler(vocab(), params);
    std::mt19937 random(19);
    const auto row = random_row(random);
    bool threw = false;
    try {
        sampler.sample(row.data());
    } catch (const error & reason) {
        threw = reason.kind == error_kind::engine;
    }
    CHECK(threw);
}

// llama.cpp would abort the process here.
TEST(an_end_that_the_grammar_does_not_allow_is_an_error) {
    generation_params params;
    params.sampling = seeded(10);
    params.sampling.grammar = common_grammar(COMMON_GRAMMAR_TYPE_USER, "root ::= \"a\"");
    slot_sampler sampler(vocab(), params);
    bool threw = false;
    try {
        sampler.accept(llama_vocab_eos(vocab()));
    } catch (const error &) {
        threw = true;
    }
    CHECK(threw);
}

TEST(logprobs_are_of_the_model_s_distribution) {
    generation_params params;
    params.sampling = seeded(11);
    params.sampling.temp = 0.0f;
    slot_sampler sampler(vocab(), params);
    std::vector<float> row(static_cast<size_t>(llama_vocab_n_tokens(vocab())), never);
    row[5] = std::log(0.75f);
    row[9] = std::log(0.25f);
    const auto probs = sampler.logprobs(row.data(), 5, 2);
    CHECK(std::fabs(std::exp(probs.logprob) - 0.75f) < 1e-5f);
    CHECK_EQ(probs.top.size(), 2u);
    CHECK_EQ(probs.top[1].token, 9);
    CHECK(std::fabs(std::exp(probs.top[1].logprob) - 0.25f) < 1e-5f);
}

TEST(logprobs_after_xtc_are_of_what_it_left) {
    generation_params params;
    params.sampling = seeded(12);
    params.sampling.temp = 1.0f;
    params.sampling.xtc_probability = 1.0f;
    params.post_sampling_probs = true;
    std::vector<float> row(static_cast<size_t>(llama_vocab_n_tokens(vocab())), never);
    row[5] = std::log(0.6f);
    row[9] = std::log(0.3f);
    row[7] = std::log(0.1f);
    slot_sampler sampler(vocab(), params);
    const llama_token token = sampler.sample(row.data());
    CHECK(token != 5);
    const auto probs = sampler.final_logprobs(token, 3);
    CHECK_EQ(probs.top.size(), 2u);
    CHECK_EQ(probs.top[0].token, 9);
    CHECK(std::fabs(std::exp(probs.top[0].logprob) - 0.75f) < 1e-5f);
}

TEST(post_sampling_probs_show_what_was_not_drawn) {
    generation_params params;
    params.sampling = seeded(13);
    params.sampling.top_k = 0;
    params.sampling.top_p = 1.0f;
    params.sampling.min_p = 0.0f;
    params.post_sampling_probs = true;
    slot_sampler sampler(vocab(), params);
    std::mt19937 random(13);
    const auto row = random_row(random);
    CHECK_EQ(sampler.final_logprobs(sampler.sample(row.data()), 5).top.size(), 5u);
}

TEST(parameters_out_of_range_are_named) {
    generation_params params;
    params.sampling.penalty_repeat = 0.0f;
    std::string param;
    try {
        slot_sampler sampler(vocab(), params);
    } catch (const error & reason) {
        param = reason.param;
    }
    CHECK_EQ(param, "repeat_penalty");
}
