#include "step_cost.h"

#include <algorithm>

#include "check.h"

using namespace pyllama;

namespace {

// What a step takes on a machine that is as simple as the estimate.
double on_machine(const step_load & load) {
    const int32_t n_rows = std::max(1, load.n_decode + load.n_prompt);
    const double per_token = 0.5 + load.n_cells / 4096 * 0.25 * attention_rows(n_rows) / n_rows;
    return 10 + 2.0 * load.n_decode + per_token * load.n_prompt;
}

void teach(step_cost & cost, int n_rounds) {
    for (int round = 0; round < n_rounds; ++round) {
        for (const step_load & load : {step_load{1, 0, 0}, step_load{4, 0, 0}, step_load{0, 512, 0},
                                       step_load{4, 60, 1000}, step_load{4, 60, 3000}}) {
            cost.observe(load, on_machine(load));
        }
    }
}

bool near(double value, double expected, double share) {
    return value > expected * (1 - share) && value < expected * (1 + share);
}

}  // namespace

TEST(nothing_is_known_before_steps_of_both_kinds) {
    step_cost cost;
    CHECK(!cost.known());
    cost.observe({0, 512, 0}, 266);
    CHECK(!cost.known());
    cost.observe({2, 0, 0}, 14);
    CHECK(cost.known());
    CHECK(near(cost.decode(2), 14, 0.001));
    cost.observe({0, 0, 0}, 1000);  // a step of nothing says nothing
    CHECK(near(cost.decode(2), 14, 0.001));
}

TEST(attention_takes_rows_by_tiles) {
    CHECK_EQ(attention_rows(1), 4);
    CHECK_EQ(attention_rows(63), 252);
    CHECK_EQ(attention_rows(64), 64);
    CHECK_EQ(attention_rows(65), 128);
    CHECK_EQ(attention_rows(512), 512);
}

TEST(slots_tokens_and_cells_are_told_apart) {
    step_cost cost;
    teach(cost, 200);
    CHECK(near(cost.decode(1), 12, 0.1));
    CHECK(near(cost.decode(4), 18, 0.1));
    CHECK(near(cost.prefill(64, 0, 0), 32, 0.2));
    CHECK(near(cost.prefill(64, 2000, 0), 64 * (0.5 + 0.25 * 2000 / 4096), 0.1));
    CHECK(near(cost.prefill(128, 2000, 0), 128 * (0.5 + 0.25 * 2000 / 4096), 0.15));
    CHECK(near(cost.prefill(32, 8000, 0), 32 * (0.5 + 4 * 0.25 * 8000 / 4096), 0.15));
}

TEST(a_step_that_stalled_counts_for_a_quarter) {
    step_cost cost;
    teach(cost, 200);
    const double before = cost.prefill(64, 1000, 0);
    cost.observe({4, 64, 1000}, 60000);
    CHECK(cost.prefill(64, 1000, 0) < 1.26 * before);
    cost.observe({4, 0, 0}, on_machine({4, 0, 0}));
    const double decode = cost.decode(4);
    cost.observe({4, 0, 0}, 60000);
    CHECK(cost.decode(4) < 1.26 * decode);
}

TEST(a_machine_that_becomes_slower_or_faster_is_followed) {
    step_cost cost;
    const step_load load{4, 64, 1000};
    teach(cost, 200);
    const double before = cost.prefill(64, 1000, 0);
    for (int i = 0; i < 25; ++i) {
        cost.observe({4, 0, 0}, 5 * on_machine({4, 0, 0}));
        cost.observe(load, 5 * on_machine(load));
    }
    CHECK(near(cost.prefill(64, 1000, 0), 5 * before, 0.2));
    for (int i = 0; i < 10; ++i) {
        cost.observe({4, 0, 0}, on_machine({4, 0, 0}));
        cost.observe(load, on_machine(load));
    }
    CHECK(near(cost.prefill(64, 1000, 0), before, 0.2));
}

TEST(an_estimate_of_nothing_grows_again) {
    step_cost cost;
    for (int i = 0; i < 100; ++i) {
        cost.observe({1, 0, 0}, 0);
        cost.observe({0, 64, 0}, 0);
    }
    for (int i = 0; i < 100; ++i) {
        cost.observe({1, 0, 0}, on_machine({1, 0, 0}));
        cost.observe({0, 64, 0}, on_machine({0, 64, 0}));
    }
    CHECK(near(cost.decode(1), 12, 0.1));
    CHECK(near(cost.decode(0) + cost.prefill(64, 0, 0), on_machine({0, 64, 0}), 0.1));
}
