#include "step_budget.h"

#include <algorithm>
#include <iterator>

namespace pyllama {

namespace {

// ggml's attention on CPUs takes rows by tiles of this many. A step that ends within a tile pays for all of it, and one
// with less than a tile goes without: 63 rows take three times as long as 64.
constexpr int32_t tile = 64;

// Below a tile, for a time that was asked for and is too short for one.
constexpr int32_t small_chunks[] = {16, 32, 48};

// Decode steps' time that belongs to each prompt.
constexpr double prompt_weight = 4;

}  // namespace

int32_t chunk_size(int32_t n_most, int32_t n_before) {
    const int32_t whole = (n_before + n_most) / tile * tile;
    return whole > n_before ? whole - n_before : n_most;
}

double step_budget::ms(const step_demand & demand) const {
    if (limits_.ms != budget_limits::automatic) {
        return limits_.ms;
    }
    return overhead(demand) + cost_.decode(demand.n_decoding) * prompt_weight * std::max(1, demand.n_prefilling);
}

double step_budget::overhead(const step_demand & demand) const {
    return cost_.decode(demand.n_decoding) + (limits_.alternate ? cost_.decode(0) : 0);
}

int32_t step_budget::n_tokens(const step_demand & demand) const {
    if (!enabled() || demand.n_decoding == 0) {
        return limits_.n_ubatch;
    }
    const int32_t n_before = limits_.alternate ? 0 : demand.n_decoding;
    const int32_t least = tile - n_before % tile;
    if (!cost_.known()) {
        return std::min(least, limits_.n_ubatch);
    }
    const double spare = ms(demand) - overhead(demand);
    const auto fits = [&](int32_t n) { return cost_.prefill(n, demand.n_cells) <= spare; };
    if (fits(limits_.n_ubatch)) {
        return limits_.n_ubatch;
    }
    int32_t n = least;
    while (n + tile < limits_.n_ubatch && fits(n + tile)) {
        n += tile;
    }
    if (limits_.ms != budget_limits::automatic && !fits(n)) {
        const auto above = std::find_if_not(std::begin(small_chunks), std::end(small_chunks), fits);
        n = std::min(n, above == std::begin(small_chunks) ? *above : *std::prev(above));
    }
    return std::min(n, limits_.n_ubatch);
}

}  // namespace pyllama
