#include "logit_row.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "check.h"

using namespace pyllama;
using pyllama_test::random_source;

namespace {

std::vector<llama_token> by_sorting(const std::vector<float> & row, int32_t k) {
    std::vector<llama_token> ids;
    for (size_t i = 0; i < row.size(); ++i) {
        if (!std::isnan(row[i])) {
            ids.push_back(static_cast<llama_token>(i));
        }
    }
    std::stable_sort(ids.begin(), ids.end(), [&](llama_token a, llama_token b) {
        return row[static_cast<size_t>(a)] > row[static_cast<size_t>(b)];
    });
    ids.resize(std::min(ids.size(), static_cast<size_t>(k)));
    return ids;
}

// Few distinct values, so that ties happen often.
std::vector<float> random_row(random_source & random, size_t n) {
    std::vector<float> row(n);
    const uint32_t distinct = 1 + random.below(2000);
    for (float & value : row) {
        value = static_cast<float>(random.below(distinct)) / 7.0f - 20.0f;
        if (random.one_in(500)) {
            value = std::numeric_limits<float>::quiet_NaN();
        } else if (random.one_in(50)) {
            value = -std::numeric_limits<float>::infinity();
        }
    }
    return row;
}

}  // namespace

TEST(top_k_is_what_sorting_gives) {
    random_source random(1);
    std::vector<llama_token_data> out;
    for (int round = 0; round < 400; ++round) {
        const auto row = random_row(random, 1 + random.below(3000));
        const auto k = static_cast<int32_t>(1 + random.below(80));
        select_top_k(row.data(), static_cast<int32_t>(row.size()), k, out);
        const auto expected = by_sorting(row, k);
        CHECK_EQ(out.size(), expected.size());
        for (size_t i = 0; i < out.size(); ++i) {
            CHECK_EQ(out[i].id, expected[i]);
            CHECK_EQ(out[i].logit, row[static_cast<size_t>(expected[i])]);
        }
    }
}

TEST(greedy_is_the_first_of_the_largest) {
    random_source random(2);
    for (int round = 0; round < 400; ++round) {
        const auto row = random_row(random, 1 + random.below(3000));
        const auto expected = by_sorting(row, 1);
        CHECK_EQ(select_greedy(row.data(), static_cast<int32_t>(row.size())),
                 expected.empty() ? LLAMA_TOKEN_NULL : expected[0]);
    }
}

TEST(nothing_is_selected_from_a_row_without_numbers) {
    const std::vector<float> row(200, std::numeric_limits<float>::quiet_NaN());
    std::vector<llama_token_data> out;
    select_top_k(row.data(), 200, 5, out);
    CHECK_EQ(out.size(), 0u);
    CHECK_EQ(select_greedy(row.data(), 200), LLAMA_TOKEN_NULL);
}

TEST(log_sum_exp_survives_large_logits) {
    const std::vector<float> row = {1000.0f, 1000.0f, -1000.0f};
    CHECK(std::fabs(log_sum_exp(row.data(), 3) - (1000.0f + std::log(2.0f))) < 1e-3f);
}

TEST(log_sum_exp_is_as_exact_as_a_float) {
    random_source random(3);
    for (int round = 0; round < 200; ++round) {
        std::vector<float> row(1 + random.below(3000));
        const auto width = static_cast<float>(1 + random.below(150));
        for (float & value : row) {
            value = static_cast<float>(random.below(100000)) / 100000.0f * width - 40.0f;
            value = random.one_in(100) ? -std::numeric_limits<float>::infinity() : value;
        }
        const double highest = *std::max_element(row.begin(), row.end());
        double sum = 0;
        for (const float value : row) {
            sum += std::exp(static_cast<double>(value) - highest);
        }
        const double expected = highest + std::log(sum);
        CHECK(std::fabs(log_sum_exp(row.data(), static_cast<int32_t>(row.size())) - expected) < 1e-5);
    }
}
