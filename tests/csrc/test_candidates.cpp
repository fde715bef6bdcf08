// What the chain chooses from, compared with the whole row through llama.cpp's own samplers.
#include "candidates.h"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "sampling_fixture.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

// A few tokens are likely again and again, so that penalties have something to do.
std::vector<float> next_row(std::mt19937 & random, const std::vector<llama_token> & likely) {
    std::vector<float> row = random_row(random);
    for (const llama_token token : likely) {
        row[static_cast<size_t>(token)] += 14.0f;
    }
    return row;
}

// The same tokens as a chain that sees all of each row, and whether ours saw less.
void check_equal(const common_params_sampling & sampling, uint32_t seed, bool selects, int n_rows = 60) {
    generation_params params;
    params.sampling = sampling;
    std::mt19937 random(seed);
    std::vector<llama_token> likely;
    for (int i = 0; i < 30; ++i) {
        likely.push_back(static_cast<llama_token>(random() % 1000));
    }
    const llama_tokens prompt(likely.begin(), likely.begin() + 10);
    slot_sampler ours(vocab(), params, prompt);
    whole_row_sampler theirs(sampling);
    candidate_selector selector(vocab(), sampling);
    const llama_sampler_ptr chain = make_sampler_chain(vocab(), sampling);
    const auto accept = [&](llama_token token) {
        theirs.accept(token);
        llama_sampler_accept(chain.get(), token);
        selector.accept(token);
    };
    for (const llama_token token : prompt) {
        accept(token);
    }
    std::vector<llama_token_data> selected;
    for (int i = 0; i < n_rows; ++i) {
        const auto row = next_row(random, likely);
        if (selector.draws()) {
            CHECK_EQ(selector.draw(chain.get(), row.data(), 0.25, selected), selects);
        } else {
            selector.select(chain.get(), row.data(), false, selected);
            CHECK_EQ(selected.size() < row.size() / 4, selects);
        }
        const llama_token expected = theirs.sample(row);
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

common_params_sampling without_top_k(uint32_t seed) {
    auto sampling = seeded(seed);
    sampling.top_k = 0;
    return sampling;
}

// Nothing but a temperature in front of the draw.
common_params_sampling drawn(uint32_t seed) {
    auto sampling = without_top_k(seed);
    sampling.top_p = 1.0f;
    sampling.min_p = 0.0f;
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

TEST(top_p_first_selects) {
    check_equal(without_top_k(1), 1, true);
    auto sampling = without_top_k(2);
    sampling.top_p = 0.5f;
    sampling.penalty_repeat = 1.3f;
    sampling.penalty_last_n = 32;
    sampling.logit_bias = {{7, 12.0f}, {8, never}, {100, -3.0f}};
    check_equal(sampling, 2, true);
    sampling = without_top_k(3);
    sampling.min_keep = 5;
    sampling.top_p = 0.1f;
    check_equal(sampling, 3, true);
}

TEST(min_p_first_selects) {
    for (uint32_t seed = 0; seed < 4; ++seed) {
        auto sampling = without_top_k(seed);
        sampling.top_p = 1.0f;
        sampling.min_p = seed == 0 ? 0.05f : 0.001f;
        sampling.penalty_present = seed == 1 ? 6.0f : 0.0f;
        sampling.penalty_last_n = 20;
        sampling.xtc_probability = seed == 2 ? 0.5f : 0.0f;
        if (seed == 3) {
            sampling.samplers = {COMMON_SAMPLER_TYPE_TEMPERATURE, COMMON_SAMPLER_TYPE_MIN_P};
            sampling.temp = 1.7f;
            sampling.min_p = 0.05f;
        }
        check_equal(sampling, seed, true);
    }
}

TEST(what_only_draws_builds_no_candidates) {
    check_equal(drawn(1), 1, true, 200);
    auto sampling = drawn(2);
    sampling.temp = 1.0f;
    sampling.penalty_repeat = 1.2f;
    sampling.penalty_last_n = 40;
    sampling.dry_multiplier = 0.8f;
    sampling.dry_penalty_last_n = 40;
    sampling.logit_bias = {{7, 12.0f}, {8, never}};
    check_equal(sampling, 2, true, 200);
}

TEST(top_n_sigma_selects) {
    for (const float n_sigmas : {0.5f, 1.0f, 2.5f}) {
        auto sampling = drawn(1);
        sampling.top_n_sigma = n_sigmas;
        check_equal(sampling, 1, true, 40);
    }
    auto sampling = seeded(2);
    sampling.top_n_sigma = 1.0f;
    sampling.penalty_repeat = 1.2f;
    sampling.penalty_last_n = 40;
    sampling.logit_bias = {{7, 12.0f}, {8, never}};
    check_equal(sampling, 2, true, 40);
}

TEST(mirostat_2_selects) {
    for (const float tau : {5.0f, 2.0f, 11.0f}) {
        auto sampling = seeded(1);
        sampling.mirostat = 2;
        sampling.mirostat_tau = tau;
        check_equal(sampling, 1, true, 30);
    }
    // With everything likelier than asked for, it soon looks at all there is.
    auto sampling = seeded(2);
    sampling.mirostat = 2;
    sampling.mirostat_tau = 10.0f;
    sampling.mirostat_eta = 1.0f;
    check_equal(sampling, 2, true, 30);
}

TEST(chains_that_sort_get_a_sorted_row) {
    auto sampling = without_top_k(1);
    sampling.typ_p = 0.6f;
    check_equal(sampling, 1, false, 8);
    sampling = drawn(2);
    sampling.dynatemp_range = 0.5f;
    check_equal(sampling, 2, false, 8);
    sampling = seeded(3);
    sampling.mirostat = 1;
    check_equal(sampling, 3, false, 8);
}

TEST(chains_that_look_at_the_whole_row_get_it) {
    auto sampling = seeded(2);
    sampling.top_n_sigma = 1.0f;
    sampling.dynatemp_range = 0.5f;
    check_equal(sampling, 2, false, 20);
    sampling = drawn(4);
    sampling.xtc_probability = 0.5f;
    check_equal(sampling, 4, false, 20);
}

TEST(a_temperature_in_front_of_top_k_selects) {
    auto sampling = seeded(1);
    sampling.temp = 1.3f;
    sampling.samplers = {COMMON_SAMPLER_TYPE_TEMPERATURE, COMMON_SAMPLER_TYPE_PENALTIES, COMMON_SAMPLER_TYPE_TOP_K,
                         COMMON_SAMPLER_TYPE_TOP_P};
    sampling.penalty_repeat = 1.2f;
    sampling.penalty_last_n = 40;
    check_equal(sampling, 1, true);
}

// What draws keeps its place in the random numbers, whichever chains come before and after.
TEST(a_changed_chain_goes_on_with_the_same_random_numbers) {
    generation_params params;
    params.sampling = seeded(5);
    slot_sampler ours(vocab(), params);
    params.sampling = drawn(77);
    slot_sampler fresh(vocab(), params);
    params.sampling = drawn(5);
    slot_sampler never_changed(vocab(), params);
    std::mt19937 random(5);
    for (int i = 0; i < 3; ++i) {
        const auto row = random_row(random);
        ours.sample(row.data());
        never_changed.sample(row.data());
    }
    ours.take_chain(fresh, {}, false);
    for (int i = 0; i < 20; ++i) {
        const auto row = random_row(random);
        CHECK_EQ(ours.sample(row.data()), never_changed.sample(row.data()));
    }
}

TEST(a_preferred_token_is_biased_until_it_is_taken_back) {
    auto sampling = seeded(1);
    sampling.temp = 0.0f;
    sampling.logit_bias = {{5, 1.0f}, {9, never}};
    candidate_selector selector(vocab(), sampling);
    const llama_sampler_ptr chain = make_sampler_chain(vocab(), sampling);
    std::vector<float> row(static_cast<size_t>(llama_vocab_n_tokens(vocab())), 0.0f);
    row[3] = 2.0f;
    std::vector<llama_token_data> out;
    const auto best = [&] {
        CHECK(selector.select(chain.get(), row.data(), false, out).sorted);
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
