#include "step_budget.h"

#include <algorithm>
#include <iterator>

namespace pyllama {

namespace {

constexpr int32_t chunk_sizes[] = {16,  32,  48,  64,  96,  128,  160,  192,  256,  320,
                                   384, 448, 512, 640, 768, 1024, 1536, 2048, 3072, 4096};

// Before there is a measurement.
constexpr int32_t first_chunk = 64;

// Decode steps' time that belongs to each prompt.
constexpr double prompt_weight = 4;

}  // namespace

int32_t chunk_size(int32_t n) {
    return n >= 64 ? n / 32 * 32 : n;
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
    if (!cost_.known()) {
        return std::min(first_chunk, limits_.n_ubatch);
    }
    const double spare = ms(demand) - overhead(demand);
    const auto fits = [&](int32_t n) { return cost_.prefill(n, demand.n_cells) <= spare; };
    if (fits(limits_.n_ubatch)) {
        return limits_.n_ubatch;
    }
    const auto above = std::find_if_not(std::begin(chunk_sizes), std::end(chunk_sizes), fits);
    return std::min(above == std::begin(chunk_sizes) ? *above : *std::prev(above), limits_.n_ubatch);
}

}  // namespace pyllama
