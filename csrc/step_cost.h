// How long a step takes, learned from the steps that were run: its decoding slots first, and on top of them the tokens
// of prompts, which cost more the more cells of the KV cache they are held against, and where the batch does not fill
// attention's tiles. Pure: it knows no clock. Not thread-safe.
//
// Each half is a line (cost_line). Decode steps teach the first, steps with prompts the second, and the first too when
// they take longer than expected: a busy machine makes every step longer. No chunk size has an estimate of its own that
// would go stale while other sizes are in use.
#pragma once

#include <cstdint>

#include "cost_line.h"

namespace pyllama {

// Rows of a batch that ggml's attention on CPUs takes at once, a row for a token.
constexpr int32_t attention_tile = 64;

// What the attention of so many rows costs, in rows of full tiles: a tile that is not full costs as much as one that
// is, and where not even one is full there are no tiles, which costs four times as much for each row.
int32_t attention_rows(int32_t n_rows);

// What one step computes.
struct step_load {
    int32_t n_decode = 0;  // slots that decode a token
    int32_t n_prompt = 0;  // all other tokens: of prompts, and of text that was forced
    double n_cells = 0;    // that each of those is held against, besides their own
};

class step_cost {
  public:
    // Takes a step that took `ms` in.
    void observe(const step_load & load, double ms);

    // Milliseconds of a step in which n slots decode; with 0, of the step itself.
    double decode(int32_t n_slots) const;

    // Milliseconds that n tokens of a prompt behind n_cells others add to a step of n_beside rows.
    double prefill(int32_t n_tokens, double n_cells, int32_t n_beside) const;

    // Whether steps of both kinds were seen.
    bool known() const { return decode_.seen() && prefill_.seen(); }

  private:
    static cost_features of_decode(int32_t n_slots);
    static cost_features of_prefill(int32_t n_tokens, double n_cells, int32_t n_beside);

    cost_line decode_;
    cost_line prefill_;
};

}  // namespace pyllama
