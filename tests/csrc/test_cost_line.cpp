#include "cost_line.h"

#include "check.h"

using namespace pyllama;

namespace {

cost_line taught(double first, double second) {
    cost_line line;
    for (int i = 0; i < 200; ++i) {
        const double depth = 1 + i % 20;
        line.observe({1, depth}, first + second * depth);
    }
    return line;
}

bool near(double value, double expected, double share) {
    return value > expected * (1 - share) && value < expected * (1 + share);
}

}  // namespace

TEST(a_line_tells_two_features_apart_that_change_slowly) {
    cost_line line;
    for (int i = 0; i < 60; ++i) {
        line.observe({1, 0.02 * i}, 200 + 600 * 0.02 * i);
    }
    CHECK(near(line.at({1, 0}), 200, 0.05));
    CHECK(near(line.at({0.25, 1}), 650, 0.05));
}

TEST(one_time_of_nothing_does_not_outweigh_the_others) {
    cost_line line = taught(10, 1);
    line.observe({1, 5}, 0);
    CHECK(near(line.at({1, 10}), 10, 0.1));  // half of it
    line.observe({1, 5}, 15);
    line.observe({1, 5}, 15);
    CHECK(near(line.at({1, 10}), 20, 0.3));
}

TEST(a_small_step_that_stalled_says_nothing_of_large_ones) {
    cost_line line = taught(10, 1);
    line.observe({1e-4, 1e-4}, 5);
    CHECK(near(line.at({1, 10}), 20, 0.1));
}

TEST(neither_feature_makes_a_step_shorter) {
    CHECK_EQ(taught(-3, 10).at({1, 0}), 0.0);
    CHECK(near(taught(-3, 10).at({1, 10}), 97, 0.1));
    CHECK_EQ(taught(100, -1).at({0, 1}), 0.0);
    CHECK(near(taught(100, -1).at({1, 10}), 90, 0.15));
}

TEST(a_feature_that_was_never_there_costs_nothing) {
    cost_line line;
    for (int i = 0; i < 20; ++i) {
        line.observe({2, 0}, 10);
    }
    CHECK(near(line.at({2, 0}), 10, 0.01));
    CHECK_EQ(line.at({0, 5}), 0.0);
}

TEST(another_pace_keeps_the_shape) {
    cost_line line = taught(10, 1);
    for (const double slowness : {20.0, 1.0}) {
        for (int i = 0; i < 30; ++i) {
            line.observe({1, 5}, slowness * 15);
        }
        CHECK(near(line.at({1, 20}), slowness * 30, 0.2));
    }
}
