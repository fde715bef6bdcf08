#include "step_budget.h"

#include <algorithm>
#include <limits>

namespace pyllama {

namespace {

// Of these are chunks that do not even fill one tile.
constexpr int32_t small_chunk = 16;

// Decode steps' time that belongs to each prompt.
constexpr double prompt_weight = 4;

// What the budget may grow by to fill a tile; and where that halves the price of a token.
constexpr double for_a_tile = 2;
constexpr double for_half_the_price = 4;

// What a token may cost more in a chunk that leaves whole tiles behind it.
constexpr double for_the_rest = 1.25;

// What a prompt's token has to take more in a step with decoding slots than in one without.
constexpr double for_turns = 1.03;

// The chunk that fills the first tile which leaves a chunk any room.
int32_t first_tile(int32_t n_beside) {
    const int32_t n = attention_tile - n_beside % attention_tile;
    return n < small_chunk ? n + attention_tile : n;
}

}  // namespace

double step_budget::price(int32_t n_tokens, const step_demand & demand) const {
    return prefill(n_tokens, demand) / n_tokens;
}

double step_budget::prefill(int32_t n_tokens, const step_demand & demand) const {
    return cost_.prefill(n_tokens, demand.n_cells, n_beside(demand));
}

double step_budget::ms(const step_demand & demand) const {
    return limits_.ms != budget_limits::automatic ? limits_.ms : overhead(demand) + spare(demand);
}

double step_budget::spare(const step_demand & demand) const {
    if (limits_.ms != budget_limits::automatic) {
        return limits_.ms - overhead(demand);
    }
    const double share = cost_.decode(demand.n_decoding) * prompt_weight * std::max(1, demand.n_prefilling);
    const int32_t n_tile = first_tile(n_beside(demand));
    const double tile = prefill(n_tile, demand);
    const bool halved = 2 * price(n_tile, demand) <= price(small_chunk, demand);
    return tile <= (halved ? for_half_the_price : for_a_tile) * share ? std::max(share, tile) : share;
}

double step_budget::overhead(const step_demand & demand) const {
    return cost_.decode(demand.n_decoding) + (demand.turns ? cost_.decode(0) : 0);
}

// All, or else whole tiles, or else small chunks. Where nothing fits, a tile, unless it takes longer than the least
// chunk: a quarter longer, or where no time was asked for, twice as long.
int32_t step_budget::most_that_fits(int32_t n_most, const step_demand & demand) const {
    const double most = spare(demand);
    const auto fits = [&](int32_t n) { return prefill(n, demand) <= most; };
    if (fits(n_most)) {
        return n_most;
    }
    const int32_t n_tile = first_tile(n_beside(demand));
    for (int32_t n = n_tile + (n_most - n_tile) / attention_tile * attention_tile; n >= n_tile; n -= attention_tile) {
        if (n <= n_most && fits(n)) {
            return n;
        }
    }
    for (int32_t n = 3 * small_chunk; n > small_chunk; n -= small_chunk) {
        if (n <= n_most && fits(n)) {
            return n;
        }
    }
    const int32_t least = std::min(small_chunk, n_most);
    if (fits(least) || n_tile > n_most) {
        return least;
    }
    const double longer = limits_.ms == budget_limits::automatic ? for_a_tile : for_the_rest;
    return prefill(n_tile, demand) < longer * prefill(least, demand) ? n_tile : least;
}

int32_t step_budget::n_tokens(const step_demand & demand) const {
    const int32_t n_most = std::min(demand.n_pending, limits_.n_ubatch - n_beside(demand));
    if (n_most <= 0) {
        return 0;
    }
    if (!enabled() || demand.n_decoding == 0) {
        return n_most;
    }
    return cost_.known() ? most_that_fits(n_most, demand) : std::min(first_tile(n_beside(demand)), n_most);
}

// What the second step takes by itself is left out: computing a tile hides it.
double step_budget::price_with_decode(const step_demand & demand) const {
    const int32_t n = n_tokens(demand);
    return n > 0 ? (cost_.decode(demand.n_decoding) + prefill(n, demand)) / n : std::numeric_limits<double>::infinity();
}

bool step_budget::better_apart(step_demand demand) const {
    if (!enabled() || !cost_.known() || demand.n_decoding == 0) {
        return false;
    }
    demand.turns = false;
    const double together = price_with_decode(demand);
    demand.turns = true;
    return for_turns * price_with_decode(demand) < together;
}

int32_t step_budget::chunk_size(int32_t n_most, int32_t n_pending, const step_demand & demand) const {
    const int32_t n_tile = first_tile(n_beside(demand));
    if (n_pending <= n_most || n_most < n_tile || !enabled()) {
        return std::min(n_pending, n_most);
    }
    const int32_t n = n_most - (n_most - n_pending % n_tile) % n_tile;
    const bool cheap = cost_.known() ? price(n, demand) <= for_the_rest * price(n_most, demand) : n >= n_tile;
    return cheap ? n : n_most;
}

}  // namespace pyllama
