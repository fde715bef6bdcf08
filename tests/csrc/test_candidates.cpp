// What the chain chooses from, compared with the whole row through llama.cpp's own samplers.
#include "candidates.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "backends.h"
#include "check.h"
#include "sampler_chain.h"
#include "slot_sampler.h"

using namespace pyllama;
using pyllama_test::random_source;

namespace {

constexpr float never = -std::numeric_limits<float>::infinity();

const llama_vocab * vocab() {
    static const llama_model_ptr model = [] {
        load_backends();
        auto params = llama_model_default_params();
        params.vocab_only = true;
        return llama_model_ptr(llama_model_load_from_file(PYLLAMA_VOCAB_GGUF, params));
    }();
    return llama_model_get_vocab(model.get());
}

// A few tokens are likely again and again, so that penalties have something to do.
std::vector<float> next_row(std::mt19937 & random, const std::vector<llama_token> & likely) {
    std::normal_distribution<float> normal(0.0f, 3.0f);
    std::vector<float> row(static_cast<size_t>(llama_vocab_n_tokens(vocab())));
    for (float & value : row) {
        value = normal(random);
    }
    for (const llama_token token : likely) {
        row[static_cast<size_t>(token)] += 14.0f;
    }
    return row;
}

// The same tokens as a chain that sees all of each row, and whether ours saw less.
void check_equal(const common_params_sampling & sampling, uint32_t seed, bool selects) {
    generation_params params;
    params.sampling = sampling;
    std::mt19937 random(seed);
    std::vector<llama_token> likely;
    for (int i = 0; i < 30; ++i) {
        likely.push_back(static_cast<llama_token>(random() % 1000));
    }
    const llama_tokens prompt(likely.begin(), likely.begin() + 10);
    slot_sampler ours(vocab(), params, prompt);
    candidate_selector selector(vocab(), sampling);
    const llama_sampler_ptr chain = make_sampler_chain(vocab(), sampling);
    const auto accept = [&](llama_token token) {
        llama_sampler_accept(chain.get(), token);
        selector.accept(token);
    };
    for (const llama_token token : prompt) {
        accept(token);
    }
    std::vector<llama_token_data> all;
    std::vector<llama_token_data> selected;
    for (int i = 0; i < 60; ++i) {
        const auto row = next_row(random, likely);
        all.clear();
        for (size_t id = 0; id < row.size(); ++id) {
            all.push_back({static_cast<llama_token>(id), row[id], 0.0f});
        }
        for (const auto & bias : sampling.logit_bias) {
            all[static_cast<size_t>(bias.token)].logit += bias.bias;
        }
        llama_token_data_array array{all.data(), all.size(), -1, false};
        llama_sampler_apply(chain.get(), &array);
        const llama_token expected = array.data[array.selected].id;
        selector.select(row.data(), false, selected);
        CHECK_EQ(selected.size() < row.size() / 4, selects);
        const llama_token token = ours.sample(row.data());
        CHECK_EQ(token, expected);
        ours.accept(token);
        accept(token);
        if (i % 10 == 5) {  // text that nobody sampled
            CHECK(ours.force({likely[0], likely[1]}));
            accept(likely[0]);
            accept(likely[1]);
        }
    }
}

common_params_sampling seeded(uint32_t seed) {
    common_params_sampling sampling;
    sampling.seed = seed;
    return sampling;
}

}  // namespace

TEST(the_default_chain_selects) {
    check_equal(seeded(1), 1, true);
}

TEST(penalties_select_and_change_no_token) {
    for (uint32_t seed = 0; seed < 6; ++seed) {
        auto sampling = seeded(seed);
        sampling.penalty_last_n = static_cast<int32_t>(4 + 20 * seed);
        sampling.penalty_repeat = seed % 2 == 0 ? 1.3f : 0.8f;
        sampling.penalty_freq = seed % 3 == 0 ? 0.7f : -0.4f;
        sampling.penalty_present = seed % 3 == 1 ? 5.0f : 0.0f;
        sampling.top_k = seed % 2 == 0 ? 40 : 5;
        sampling.temp = seed == 3 ? 0.0f : 0.9f;
        check_equal(sampling, seed, true);
        sampling.logit_bias = {{7, 12.0f}, {8, never}, {100, -3.0f}};
        check_equal(sampling, seed, true);
    }
}

TEST(dry_selects_and_changes_no_token) {
    for (uint32_t seed = 0; seed < 4; ++seed) {
        auto sampling = seeded(seed);
        sampling.dry_multiplier = 0.8f;
        sampling.dry_allowed_length = 1;
        sampling.dry_penalty_last_n = 64;
        sampling.top_k = 3;
        if (seed % 2 == 1) {
            sampling.penalty_repeat = 1.2f;
            sampling.penalty_last_n = 16;
        }
        check_equal(sampling, seed, true);
    }
}

TEST(chains_that_look_at_the_whole_row_get_it) {
    auto sampling = seeded(1);
    sampling.top_k = 0;
    check_equal(sampling, 1, false);
    sampling = seeded(2);
    sampling.top_n_sigma = 1.0f;
    check_equal(sampling, 2, false);
}

TEST(a_preferred_token_is_biased_until_it_is_taken_back) {
    auto sampling = seeded(1);
    sampling.temp = 0.0f;
    sampling.logit_bias = {{5, 1.0f}, {9, never}};
    candidate_selector selector(vocab(), sampling);
    std::vector<float> row(static_cast<size_t>(llama_vocab_n_tokens(vocab())), 0.0f);
    row[3] = 2.0f;
    std::vector<llama_token_data> out;
    const auto best = [&] {
        CHECK(selector.select(row.data(), false, out));
        return out.front().id;
    };
    CHECK_EQ(best(), 3);
    selector.prefer(5, 2.0f);
    CHECK_EQ(best(), 5);
    CHECK_EQ(out.front().logit, 3.0f);
    selector.prefer(4, 2.5f);
    CHECK_EQ(best(), 4);
    selector.prefer(9, 100.0f);
    CHECK_EQ(best(), 3);
    selector.prefer(4, 0.0f);
    CHECK_EQ(best(), 3);
}
