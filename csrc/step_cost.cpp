#include "step_cost.h"

#include <algorithm>

namespace pyllama {

namespace {

// Units in which both features of a usual step are of about the same size.
constexpr double unit_slots = 4;
constexpr double unit_tokens = 64;
constexpr double unit_cells = 4096;

constexpr int32_t without_tiles = 4;  // rows of a full tile that one costs

// Share of the way to a measurement that the estimate goes, and what a slow one counts for at most: with these a
// single step that stalled raises the estimate by a quarter.
constexpr double rate_up = 0.5;
constexpr double rate_down = 0.5;
constexpr double most_error = 0.5;    // of the estimate
constexpr double least_error = 0.01;  // ms: an estimate of nothing grows again

}  // namespace

int32_t attention_rows(int32_t n_rows) {
    return n_rows < attention_tile ? without_tiles * n_rows
                                   : (n_rows + attention_tile - 1) / attention_tile * attention_tile;
}

void step_cost::line::observe(const features & x, double ms) {
    const double error = std::min(ms - at(x), std::max(most_error * at(x), least_error));
    const double step =
        (!seen ? ms : (error < 0 ? rate_down : rate_up) * error) / (x.first * x.first + x.second * x.second);
    first = std::max(0.0, first + step * x.first);
    second = std::max(0.0, second + step * x.second);
    seen = true;
}

step_cost::features step_cost::of_decode(int32_t n_slots) {
    return {1, n_slots / unit_slots};
}

step_cost::features step_cost::of_prefill(int32_t n_tokens, double n_cells, int32_t n_beside) {
    const double n_units = n_tokens / unit_tokens;
    const int32_t n_rows = std::max(1, n_tokens + n_beside);
    const double n_held = (n_cells + n_tokens / 2.0) * attention_rows(n_rows) / n_rows;
    return {n_units, n_units * n_held / unit_cells};
}

void step_cost::observe(const step_load & load, double ms) {
    if (load.n_prompt == 0) {
        if (load.n_decode > 0) {
            decode_.observe(of_decode(load.n_decode), ms);
        }
        return;
    }
    const features x = of_prefill(load.n_prompt, load.n_cells, load.n_decode);
    const double base = decode(load.n_decode);
    const double added = prefill_.at(x);
    if (base <= 0 || added <= 0) {
        prefill_.observe(x, std::max(0.0, ms - base));
        return;
    }
    // A busy machine makes every step longer, whatever is in it. Only a decode step says that it is not busy any more.
    const double shared = std::max(0.0, ms - base - added) * base / (base + added);
    if (shared > 0) {
        decode_.observe(of_decode(load.n_decode), base + shared);
    }
    prefill_.observe(x, std::max(0.0, ms - base - shared));
}

double step_cost::decode(int32_t n_slots) const {
    return decode_.at(of_decode(n_slots));
}

double step_cost::prefill(int32_t n_tokens, double n_cells, int32_t n_beside) const {
    return prefill_.at(of_prefill(n_tokens, n_cells, n_beside));
}

}  // namespace pyllama
