// How many tokens of prompts the next step takes while somebody decodes, so that the step, or the decode step and the
// prefill step that take turns, stays within a time. Engine thread.
//
// Without a time of its own the budget follows from what a decode step takes: to each prompt that is being decoded
// belong four times that. Alone, a prompt then has four fifths of the time, and is done in 1.25 of what it would
// take with nobody decoding. With several the budget grows, up to a whole ubatch: who waits for a first token is then
// more than who waits for the next one, and decode steps of few slots are the dearer way to make tokens. It grows where
// that fills one of attention's tiles: to twice what it was, and to four times where that halves the price of a token.
//
// A step's batch, decoding slots included, fills whole tiles where the budget allows. What is left of a prompt at its
// end does not, and deep in the cache that is dear: so an early step takes less, and the rest fills tiles.
//
// Decoding slots in a tile take rows of it from the prompt. Where that costs more than a step of their own, the two
// take turns.
#pragma once

#include <cstdint>

#include "step_cost.h"

namespace pyllama {

struct budget_limits {
    static constexpr double automatic = 0;

    double ms = automatic;  // below 0: no budget
    int32_t n_ubatch = 512;
};

// Who has something to do in the next step.
struct step_demand {
    int32_t n_decoding = 0;    // slots
    int32_t n_prefilling = 0;  // slots, with those that wait for a prefix that another one decodes
    int32_t n_pending = 0;     // tokens that a step could take besides one for each decoding slot
    double n_cells = 0;        // that a token of the first prompt is held against
    bool turns = false;        // decode and prefill are steps of their own
};

class step_budget {
  public:
    explicit step_budget(budget_limits limits) : limits_(limits) {}

    bool enabled() const { return limits_.ms >= 0; }

    // Tokens that the step takes besides one for each decoding slot: what fits into the ubatch when nobody decodes.
    // Never less than a few, or no prompt would get ahead under a budget below a decode step's time.
    int32_t n_tokens(const step_demand & demand) const;

    // At most n_most of a prompt's tokens, of which so many are left: fewer, where that makes them little dearer, so
    // that the rest comes in chunks that fill tiles.
    int32_t chunk_size(int32_t n_most, int32_t n_pending, const step_demand & demand) const;

    // Whether a prompt's token takes less in a step of its own with the decode step before it than in one with both.
    bool better_apart(step_demand demand) const;

    // The milliseconds that this is made from: from one decode step to the next.
    double ms(const step_demand & demand) const;

    void observe(const step_load & load, double ms) { cost_.observe(load, ms); }
    const step_cost & cost() const { return cost_; }

  private:
    // The rows that the step has besides.
    int32_t n_beside(const step_demand & demand) const { return demand.turns ? 0 : demand.n_decoding; }

    // What the decode step takes, and where the prefill step is another one, what that takes besides its tokens.
    double overhead(const step_demand & demand) const;

    // The time beside that which is left for prompts.
    double spare(const step_demand & demand) const;

    double prefill(int32_t n_tokens, const step_demand & demand) const;
    double price(int32_t n_tokens, const step_demand & demand) const;  // of a token
    double price_with_decode(const step_demand & demand) const;
    int32_t most_that_fits(int32_t n_most, const step_demand & demand) const;

    budget_limits limits_;
    step_cost cost_;
};

}  // namespace pyllama
