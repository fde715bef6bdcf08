#include "cost_line.h"

#include <algorithm>

namespace pyllama {

namespace {

constexpr double kept = 0.98;         // of the sums, at each observation
constexpr double ridge = 1e-4;        // of the sums: without a second direction in them, the shortest line fits
constexpr double pace_rate = 0.5;     // of the way to a measurement
constexpr double most_error = 0.5;    // of the estimate: with these a stall raises it by a quarter
constexpr double least_error = 0.01;  // ms: an estimate of nothing grows again

}  // namespace

void cost_line::observe(const cost_features & x, double ms) {
    const double expected = at(x);
    if (seen_) {
        ms = std::min(ms, expected + std::max(most_error * expected, least_error));
    }
    if (pace_ * (first_ + second_) < least_error) {
        *this = {};  // times of nothing would outweigh what is to come
    }
    // Nor must one time of next to nothing outweigh all others.
    const double weight = 1 / std::max({ms, expected, least_error});
    const double first = weight * x.first;
    const double second = weight * x.second;
    const double relative = weight * ms;
    sum_11_ = kept * sum_11_ + first * first;
    sum_12_ = kept * sum_12_ + first * second;
    sum_22_ = kept * sum_22_ + second * second;
    sum_1_ = kept * sum_1_ + relative * first;
    sum_2_ = kept * sum_2_ + relative * second;
    fit();
    if (seen_ && at(x) >= least_error) {
        pace_ += pace_rate * (ms / shape(x) - pace_);
    }
    seen_ = true;
}

// Neither feature makes a step shorter.
void cost_line::fit() {
    const double extra = ridge * (sum_11_ + sum_22_);
    const double a = sum_11_ + extra;
    const double c = sum_22_ + extra;
    const double determinant = a * c - sum_12_ * sum_12_;
    first_ = (sum_1_ * c - sum_2_ * sum_12_) / determinant;
    second_ = (sum_2_ * a - sum_1_ * sum_12_) / determinant;
    if (first_ < 0) {
        first_ = 0;
        second_ = sum_2_ / c;
    } else if (second_ < 0) {
        first_ = sum_1_ / a;
        second_ = 0;
    }
}

}  // namespace pyllama
