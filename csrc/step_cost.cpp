#include "step_cost.h"

#include <algorithm>

namespace pyllama {

namespace {

// Units in which both features of a usual step are of about the same size.
constexpr double unit_slots = 4;
constexpr double unit_tokens = 64;
constexpr double unit_cells = 4096;

constexpr int32_t without_tiles = 4;  // rows of a full tile that one costs

}  // namespace

int32_t attention_rows(int32_t n_rows) {
    return n_rows < attention_tile ? without_tiles * n_rows
                                   : (n_rows + attention_tile - 1) / attention_tile * attention_tile;
}

cost_features step_cost::of_decode(int32_t n_slots) {
    return {1, n_slots / unit_slots};
}

// All of a tile's rows are held against the prompt's cells. Without tiles, each row has cells of its own.
cost_features step_cost::of_prefill(int32_t n_tokens, double n_cells, int32_t n_beside) {
    const bool tiled = n_tokens + n_beside >= attention_tile;
    const int32_t n_rows = attention_rows(tiled ? n_tokens + n_beside : n_tokens);
    return {n_tokens / unit_tokens, n_rows / unit_tokens * (n_cells + n_tokens / 2.0) / unit_cells};
}

void step_cost::observe(const step_load & load, double ms) {
    if (load.n_prompt == 0) {
        if (load.n_decode > 0) {
            decode_.observe(of_decode(load.n_decode), ms);
        }
        return;
    }
    const cost_features x = of_prefill(load.n_prompt, load.n_cells, load.n_decode);
    const double base = decode(load.n_decode);
    const double added = prefill_.at(x);
    if (base <= 0 || added <= 0) {
        prefill_.observe(x, std::max(0.0, ms - base));
        return;
    }
    // A busy machine makes every step longer, whatever is in it. Only a decode step says that it is not busy any more,
    // or a step that took less than one.
    const double share = base / (base + added);
    const double decode_ms = ms < base ? ms * share : base + std::max(0.0, ms - base - added) * share;
    if (decode_ms != base) {
        decode_.observe(of_decode(load.n_decode), decode_ms);
    }
    prefill_.observe(x, ms - decode_ms);
}

double step_cost::decode(int32_t n_slots) const {
    return decode_.at(of_decode(n_slots));
}

double step_cost::prefill(int32_t n_tokens, double n_cells, int32_t n_beside) const {
    return prefill_.at(of_prefill(n_tokens, n_cells, n_beside));
}

}  // namespace pyllama
