// Against llama.cpp's samplers, on small rows of all kinds: ties, one value, nothing possible but one, NaN.
#include "row_selection.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "llama-cpp.h"

using namespace pyllama;
using pyllama_test::random_source;

namespace {

using row_type = std::vector<float>;
using candidates = std::vector<llama_token_data>;

row_type random_row(random_source & random) {
    row_type row(1 + random.below(random.one_in(3) ? 5000 : 40));
    const float spread = random.one_in(4) ? 0.0f : static_cast<float>(1 + random.below(60));
    const uint32_t distinct = random.one_in(2) ? 7 : 1u << 24;
    const float shift = static_cast<float>(random.below(3)) * 40.0f - 40.0f;
    for (float & value : row) {
        value = spread * static_cast<float>(random.below(distinct)) / static_cast<float>(distinct) + shift;
        if (random.one_in(300)) {
            value = std::numeric_limits<float>::quiet_NaN();
        } else if (random.one_in(60)) {
            value = -std::numeric_limits<float>::infinity();
        }
    }
    row[random.below(static_cast<uint32_t>(row.size()))] = shift + spread;  // one that is possible
    return row;
}

int32_t size_of(const row_type & row) {
    return static_cast<int32_t>(row.size());
}

candidates possible(const row_type & row) {
    candidates all;
    for (size_t id = 0; id < row.size(); ++id) {
        if (row[id] > -std::numeric_limits<float>::infinity()) {
            all.push_back({static_cast<llama_token>(id), row[id], 0.0f});
        }
    }
    return all;
}

// What the sampler leaves of the row, and the chosen one's place.
candidates by_llama(llama_sampler * sampler, const row_type & row, int64_t * selected = nullptr) {
    const llama_sampler_ptr owned(sampler);
    candidates all = possible(row);
    llama_token_data_array array{all.data(), all.size(), -1, false};
    llama_sampler_apply(sampler, &array);
    if (selected != nullptr) {
        *selected = array.selected;
    }
    return {array.data, array.data + array.size};
}

// The same logits in the same order, and each of its own token.
void check_same_logits(const candidates & ours, const candidates & theirs, const row_type & row) {
    CHECK_EQ(ours.size(), theirs.size());
    std::vector<bool> seen(row.size());
    for (size_t i = 0; i < ours.size(); ++i) {
        const auto id = static_cast<size_t>(ours[i].id);
        CHECK_EQ(ours[i].logit, theirs[i].logit);
        CHECK_EQ(ours[i].logit, row[id]);
        CHECK(!seen[id]);
        seen[id] = true;
    }
}

}  // namespace

TEST(a_sorted_row_is_stable) {
    random_source random(1);
    candidates out;
    for (int round = 0; round < 500; ++round) {
        const auto row = random_row(random);
        sort_row(row.data(), size_of(row), out);
        candidates expected = possible(row);
        std::stable_sort(expected.begin(), expected.end(),
                         [](const auto & a, const auto & b) { return a.logit > b.logit; });
        CHECK_EQ(out.size(), expected.size());
        for (size_t i = 0; i < out.size(); ++i) {
            CHECK_EQ(out[i].id, expected[i].id);
        }
    }
    const row_type signs = {-0.0f, 1.0f, -1.0f, 3e38f, -3e38f, 1e-40f, -1e-40f};
    sort_row(signs.data(), size_of(signs), out);
    std::vector<llama_token> ids;
    for (const auto & candidate : out) {
        ids.push_back(candidate.id);
    }
    CHECK((ids == std::vector<llama_token>{3, 1, 5, 0, 6, 2, 4}));
}

TEST(min_p_leaves_what_llama_leaves) {
    random_source random(2);
    candidates out;
    for (int round = 0; round < 2000; ++round) {
        const auto row = random_row(random);
        const float p = random.one_in(10) ? 1.0f : static_cast<float>(1 + random.below(1000)) / 1001.0f;
        select_min_p(row.data(), size_of(row), p, out);
        const candidates expected = by_llama(llama_sampler_init_min_p(p, 0), row);
        check_same_logits(out, expected, row);
        for (size_t i = 0; i < out.size(); ++i) {
            CHECK_EQ(out[i].id, expected[i].id);
        }
    }
}

TEST(top_p_leaves_what_llama_leaves) {
    random_source random(3);
    candidates out;
    for (int round = 0; round < 2000; ++round) {
        const auto row = random_row(random);
        const float p = static_cast<float>(random.below(1000)) / 1000.0f;
        const size_t min_keep = random.one_in(4) ? random.below(400) : 0;
        select_top_p(row.data(), size_of(row), p, min_keep, out);
        check_same_logits(out, by_llama(llama_sampler_init_top_p(p, min_keep), row), row);
    }
}

// Where sums are small every rounding counts, where the row is long all of them together do.
TEST(sigmas_leave_what_llama_leaves) {
    random_source random(7);
    std::mt19937 numbers(7);
    candidates out;
    for (int round = 0; round < 2000; ++round) {
        auto row = random_row(random);
        if (round % 20 == 0) {
            std::normal_distribution<float> normal(static_cast<float>(round % 7) - 3.0f, 2.5f);
            row.resize(150'001);
            std::generate(row.begin(), row.end(), [&] { return normal(numbers); });
        }
        const float n_sigmas = static_cast<float>(1 + random.below(400)) / 100.0f;
        CHECK(select_sigmas(row.data(), size_of(row), n_sigmas, out));
        candidates expected = by_llama(llama_sampler_init_top_n_sigma(n_sigmas), row);
        expected.erase(
            std::remove_if(expected.begin(), expected.end(), [](const auto & c) { return std::isinf(c.logit); }),
            expected.end());
        check_same_logits(out, expected, row);
    }
    const row_type huge = {3e38f, -3e38f};
    CHECK(!select_sigmas(huge.data(), 2, 1.0f, out));
}

TEST(surprise_leaves_what_is_not_above_it) {
    random_source random(6);
    candidates out;
    candidates sorted;
    for (int round = 0; round < 300; ++round) {
        const auto row = random_row(random);
        sort_row(row.data(), size_of(row), sorted);
        double sum = 0;
        for (const auto & candidate : sorted) {
            sum += std::exp(static_cast<double>(candidate.logit) - static_cast<double>(sorted[0].logit));
        }
        for (const float surprise : {1.0f, 10.0f, 24.0f, 60.0f}) {
            select_surprise(row.data(), size_of(row), surprise, out);
            for (size_t i = 0; i < out.size(); ++i) {
                CHECK_EQ(out[i].id, sorted[i].id);
            }
            if (out.size() < sorted.size()) {
                const double next =
                    static_cast<double>(sorted[out.size()].logit) - static_cast<double>(sorted[0].logit);
                CHECK(std::exp(next) / sum < std::exp2(-static_cast<double>(surprise)));
            }
        }
    }
}

// Where a sum in single precision stops feeling its terms, and where the likely tokens come late.
TEST(top_p_sums_as_llama_does) {
    std::mt19937 random(4);
    candidates out;
    for (int round = 0; round < 60; ++round) {
        std::normal_distribution<float> normal(0.0f, 1.0f + static_cast<float>(round % 6));
        row_type row(60'000);
        for (float & value : row) {
            value = normal(random);
        }
        for (int i = 0; i < round % 20; ++i) {
            row[round % 2 == 0 ? random() % row.size() : row.size() - 1 - random() % 100] +=
                static_cast<float>(random() % 30);
        }
        for (const float p : {0.3f, 0.9f, 0.95f, 0.999f, 0.99999f}) {
            select_top_p(row.data(), size_of(row), p, 0, out);
            check_same_logits(out, by_llama(llama_sampler_init_top_p(p, 0), row), row);
        }
    }
}

TEST(a_draw_is_the_one_that_llama_draws) {
    random_source random(5);
    std::vector<double> sums;
    int n_told = 0;
    constexpr int n_rounds = 4000;
    for (int round = 0; round < n_rounds; ++round) {
        const auto row = random_row(random);
        const auto seed = static_cast<uint32_t>(round);
        std::mt19937 numbers(seed);
        const double u = std::uniform_real_distribution<double>(0.0, 1.0)(numbers);
        const llama_token token = draw_from(row.data(), size_of(row), u, sums);
        if (token == LLAMA_TOKEN_NULL) {
            continue;
        }
        ++n_told;
        int64_t selected = -1;
        const candidates all = by_llama(llama_sampler_init_dist(seed), row, &selected);
        CHECK_EQ(token, all[static_cast<size_t>(selected)].id);
    }
    CHECK(n_told > n_rounds * 9 / 10);
}

TEST(a_draw_that_is_too_close_is_left_to_llama) {
    std::vector<double> sums;
    const row_type even(4, 1.0f);
    CHECK_EQ(draw_from(even.data(), 4, 0.5, sums), LLAMA_TOKEN_NULL);
    CHECK_EQ(draw_from(even.data(), 4, 0.0, sums), LLAMA_TOKEN_NULL);
    CHECK_EQ(draw_from(even.data(), 4, 0.51, sums), 2);
    CHECK_EQ(draw_from(even.data(), 4, 0.99, sums), 3);
    const row_type nothing(4, -std::numeric_limits<float>::infinity());
    CHECK_EQ(draw_from(nothing.data(), 4, 0.5, sums), LLAMA_TOKEN_NULL);
}
