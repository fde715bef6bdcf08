#include "step_budget.h"

#include <algorithm>

#include "check.h"

using namespace pyllama;

namespace {

constexpr int32_t n_ubatch = 512;

// Steps, and what they take: the tokens, and the cells that attention holds them against by whole tiles.
class machine {
  public:
    double slowness = 1;
    double delay = 0;         // of each step, whatever is in it
    double per_token = 0.5;   // of a prompt
    double per_cells = 0.25;  // and per 4096 cells
    double per_slot = 2;

    double run(const step_load & load) const {
        const int32_t n_all = load.n_decode + load.n_prompt;
        const int32_t n_rows = attention_rows(n_all < attention_tile ? load.n_prompt : n_all);
        const double held = load.n_prompt > 0 ? (load.n_cells + load.n_prompt / 2.0) / 4096 * n_rows : 0;
        return delay + slowness * (10 + per_slot * load.n_decode + per_token * load.n_prompt + held * per_cells);
    }
};

step_demand one_prompt(int32_t n_decoding, double n_cells, int32_t n_pending = 100000) {
    return {n_decoding, 1, n_pending, n_cells, false};
}

// Slots that decode, after a while of it, and prompts that come in beside them.
class busy_engine {
  public:
    explicit busy_engine(double budget_ms, bool alternate = false, int32_t n_slots = 4, machine runs_on = {})
        : n_decoding(n_slots), host(runs_on), budget({budget_ms, n_ubatch}), alternate_(alternate) {
        observe({0, 40, 0});
        for (int i = 0; i < 50; ++i) {
            observe({n_decoding, 0, 0});
        }
    }

    double observe(const step_load & load) {
        const double ms = host.run(load);
        budget.observe(load, ms);
        return ms;
    }

    // A prompt of n tokens beside the slots that decode. Returns what it takes; `worst` becomes the longest time
    // between two tokens of theirs.
    double prefill(int32_t n) {
        double total = 0;
        worst = 0;
        for (int32_t n_done = 0; n_done < n;) {
            step_demand demand = one_prompt(n_decoding, n_done, n - n_done);
            demand.turns = alternate_;
            const double n_cells = demand.n_cells;
            const int32_t size = budget.chunk_size(budget.n_tokens(demand), n - n_done, demand);
            n_steps++;
            smallest = std::min(smallest, size);
            double gap = 0;
            if (!alternate_ && n_steps % 8 == 0) {
                total += observe({n_decoding, 0, 0});  // as the scheduler does
            }
            if (alternate_) {
                gap = observe({n_decoding, 0, 0}) + observe({0, size, n_cells});
            } else {
                gap = observe({n_decoding, size, n_cells});
            }
            n_done += size;
            total += gap;
            worst = std::max(worst, gap);
        }
        return total;
    }

    const int32_t n_decoding;
    machine host;
    step_budget budget;
    double worst = 0;
    int n_steps = 0;
    int32_t smallest = n_ubatch;

  private:
    bool alternate_;
};

double alone(int32_t n_tokens, const machine & host = {}) {
    double total = 0;
    for (int32_t n_done = 0; n_done < n_tokens; n_done += n_ubatch) {
        total += host.run({0, std::min(n_ubatch, n_tokens - n_done), static_cast<double>(n_done)});
    }
    return total;
}

}  // namespace

TEST(with_nobody_decoding_or_without_a_budget_a_step_is_a_whole_ubatch) {
    const busy_engine strict(1);
    CHECK_EQ(strict.budget.n_tokens(one_prompt(0, 100)), n_ubatch);
    CHECK_EQ(strict.budget.n_tokens(one_prompt(0, 100, 70)), 70);
    CHECK(strict.budget.n_tokens(one_prompt(1, 100)) < n_ubatch);
    const busy_engine off(-1);
    CHECK_EQ(off.budget.n_tokens(one_prompt(4, 4000)), n_ubatch - 4);
    CHECK_EQ(off.budget.n_tokens(one_prompt(n_ubatch, 4000)), 0);
    CHECK_EQ(off.budget.chunk_size(508, 1000, one_prompt(4, 0)), 508);
    CHECK_EQ(off.budget.chunk_size(508, 100, one_prompt(4, 0)), 100);
}

TEST(steps_stay_within_the_budget_at_any_depth) {
    for (const bool alternate : {false, true}) {
        for (const double ms : {60.0, 100.0, 200.0}) {
            busy_engine engine(ms, alternate);
            engine.prefill(4000);
            engine.prefill(4000);
            CHECK(engine.worst < 1.15 * ms);
            CHECK(engine.worst > 0.4 * ms);
        }
    }
}

TEST(a_budget_below_a_decode_step_still_lets_prompts_through) {
    busy_engine engine(0.001);
    engine.prefill(64);
    CHECK_EQ(engine.n_steps, 4);
    CHECK_EQ(engine.smallest, 16);
}

TEST(before_any_measurement_chunks_are_small) {
    const step_budget fresh({budget_limits::automatic, n_ubatch});
    CHECK_EQ(fresh.n_tokens(one_prompt(1, 0)), 63);
    CHECK_EQ(fresh.n_tokens(one_prompt(1, 0, 20)), 20);
    CHECK_EQ(fresh.n_tokens(one_prompt(63, 0)), 65);
    const step_budget small({budget_limits::automatic, 32});
    CHECK_EQ(small.n_tokens(one_prompt(1, 0)), 31);
}

TEST(by_itself_a_prompt_takes_little_longer_than_alone) {
    for (const bool alternate : {false, true}) {
        busy_engine engine(budget_limits::automatic, alternate);
        engine.prefill(4000);
        const double beside = engine.prefill(4000);
        CHECK(beside < 1.6 * alone(4000));
        CHECK(engine.worst < 6 * engine.host.run({4, 0, 0}));
    }
}

TEST(many_slots_that_decode_leave_a_prompt_its_chunks) {
    for (const int32_t n_decoding : {40, 48, 50, 63, 64, 100}) {
        busy_engine engine(budget_limits::automatic, false, n_decoding);
        engine.prefill(4000);
        engine.smallest = n_ubatch;
        engine.prefill(4096);
        CHECK(engine.smallest >= 16);
        CHECK(engine.worst < 6 * engine.host.run({n_decoding, 0, 0}));
    }
}

// Where a decode step waits for memory and a prompt's tokens for the cores, as with large models on CPUs.
TEST(a_tile_is_not_taken_where_it_takes_much_longer_than_the_budget) {
    machine large;
    large.per_slot = 10;
    large.per_token = 30;
    busy_engine engine(budget_limits::automatic, false, 4, large);
    engine.prefill(500);
    engine.prefill(500);
    CHECK_EQ(engine.budget.n_tokens(one_prompt(4, 100)), 16);
    CHECK(engine.worst < 12 * large.run({4, 0, 0}));  // 16 tokens take 9.6
}

// Four decode steps take 72 ms.
TEST(a_tile_may_take_more_than_the_budget_and_more_still_at_half_the_price) {
    const auto n_tokens = [](double per_token, double per_cells, int32_t n_cells, double budget_ms) {
        machine host;
        host.per_token = per_token;
        host.per_cells = per_cells;
        busy_engine engine(budget_ms, false, 4, host);
        engine.prefill(n_cells);
        engine.prefill(n_cells);
        return engine.budget.n_tokens(one_prompt(4, n_cells));
    };
    const double automatic = budget_limits::automatic;
    CHECK_EQ(n_tokens(2, 0, 1000, automatic), 60);      // 120 ms, at the price of small chunks
    CHECK_EQ(n_tokens(3.6, 0, 1000, automatic), 16);    // 216 ms, the same
    CHECK_EQ(n_tokens(0.5, 2.5, 4600, automatic), 60);  // 200 ms; 16 tokens take 189
    // Where small chunks take too long as well, a tile may take twice their time; a quarter more where one was asked
    // for.
    CHECK_EQ(n_tokens(0.5, 10, 4600, automatic), 60);  // 750 ms; 16 tokens take 728
    CHECK_EQ(n_tokens(0.5, 2.5, 4600, 50), 60);        // 210 and 188
    CHECK_EQ(n_tokens(2, 2.5, 4600, automatic), 60);   // 300 and 212
    CHECK_EQ(n_tokens(2, 2.5, 4600, 50), 16);
    CHECK(n_tokens(0.5, 2.5, 4600, 210) <= 32);  // 192 ms are left: enough for 188, and no tile
}

TEST(where_nothing_fits_a_prompt_gets_what_takes_the_least) {
    machine long_caches;
    long_caches.per_token = 0.1;
    long_caches.per_cells = 10;
    busy_engine engine(1, false, 32, long_caches);
    engine.prefill(1500);
    engine.prefill(1500);
    CHECK_EQ(engine.budget.n_tokens(one_prompt(32, 1500)), 32);  // a tile of its own; 16 tokens are held four times
    CHECK_EQ(engine.budget.n_tokens(one_prompt(32, 0)), 16);
}

// Beside 40 slots a tile has room for 24 tokens of a prompt, and attention takes as long for them as for 64.
TEST(where_tiles_are_dear_decode_and_prefill_take_turns) {
    machine deep;
    deep.per_cells = 4;
    busy_engine engine(budget_limits::automatic, false, 40, deep);
    engine.prefill(4000);
    engine.prefill(4000);
    CHECK(engine.budget.better_apart(one_prompt(40, 4000)));
    CHECK(!engine.budget.better_apart(one_prompt(40, 0)));
    CHECK(!engine.budget.better_apart(one_prompt(40, 4000, 8)));  // what is left fits beside them
    CHECK(!engine.budget.better_apart(one_prompt(0, 4000)));
    const busy_engine off(-1, false, 40, deep);
    CHECK(!off.budget.better_apart(one_prompt(40, 4000)));
    const step_budget fresh({budget_limits::automatic, n_ubatch});
    CHECK(!fresh.better_apart(one_prompt(40, 4000)));
}

TEST(many_prompts_get_whole_ubatches) {
    const busy_engine engine(budget_limits::automatic);
    int32_t previous = 0;
    for (const int n_prompts : {1, 2, 4, 8, 16}) {
        const int32_t n = engine.budget.n_tokens({4, n_prompts, 10000, 500, false});
        CHECK(n >= previous);
        previous = n;
    }
    CHECK_EQ(previous, n_ubatch - 4);
    const busy_engine strict(60);  // a time that was asked for holds
    CHECK(strict.budget.n_tokens({4, 16, 10000, 500, false}) <= 64);
}

TEST(a_stall_shrinks_chunks_by_one_size_and_not_for_long) {
    busy_engine engine(100);
    engine.prefill(4000);
    const auto n_tokens = [&] { return engine.budget.n_tokens(one_prompt(4, 1000)); };
    const auto go_on = [&](int n_steps) {
        for (int i = 0; i < n_steps; ++i) {
            engine.observe({4, n_tokens(), 1000});
            engine.observe({4, 0, 0});
        }
    };
    go_on(20);
    const int32_t before = n_tokens();
    engine.budget.observe({4, before, 1000}, 5000);
    engine.budget.observe({4, 0, 0}, 5000);
    CHECK(n_tokens() >= before - 64);
    go_on(4);
    CHECK_EQ(n_tokens(), before);
}

TEST(a_slow_machine_gets_smaller_chunks_until_it_is_fast_again) {
    busy_engine engine(200);
    engine.prefill(4000);
    const auto n_tokens = [&] { return engine.budget.n_tokens(one_prompt(4, 1000)); };
    const int32_t before = n_tokens();
    engine.host.slowness = 4;
    engine.prefill(4000);
    CHECK(n_tokens() <= before / 4);
    engine.host.slowness = 1;
    engine.prefill(1000);
    CHECK(n_tokens() >= before * 3 / 4);
}

TEST(what_every_step_loses_is_not_put_down_to_tokens) {
    busy_engine engine(budget_limits::automatic);
    engine.prefill(4000);
    const auto n_tokens = [&] { return engine.budget.n_tokens(one_prompt(4, 1000)); };
    const int32_t before = n_tokens();
    engine.host.delay = 500;
    engine.prefill(4000);
    CHECK(n_tokens() > before);
    engine.host.delay = 0;
    for (int i = 0; i < 30; ++i) {
        engine.observe({4, 0, 0});
    }
    engine.prefill(2000);
    CHECK(engine.worst < 6 * engine.host.run({4, 0, 0}));
}

TEST(batches_fill_tiles_or_are_small) {
    const busy_engine engine(100);
    const busy_engine automatic(budget_limits::automatic);
    for (const busy_engine * each : {&engine, &automatic}) {
        for (int32_t n_cells = 0; n_cells < 20000; n_cells += 50) {
            const int32_t n = each->budget.n_tokens(one_prompt(4, n_cells));
            CHECK(n == 16 || n == 32 || n == 48 || (n + 4) % attention_tile == 0);
        }
    }
}

TEST(the_end_of_a_prompt_is_cut_where_attention_is_cheap) {
    busy_engine engine(100);
    engine.prefill(4000);
    const auto chunk = [&](int32_t n_most, int32_t n_pending, int32_t n_decoding = 4, double n_cells = 0) {
        return engine.budget.chunk_size(n_most, n_pending, one_prompt(n_decoding, n_cells));
    };
    CHECK_EQ(chunk(508, 7), 7);
    CHECK_EQ(chunk(508, 508), 508);
    CHECK_EQ(chunk(508, 600 * 10), 480);
    CHECK_EQ(chunk(508, 600 * 10 + 20), 500);
    CHECK_EQ(chunk(60, 600), 60);
    CHECK_EQ(chunk(60, 610), 10);
    CHECK_EQ(chunk(124, 610), 70);
    CHECK_EQ(chunk(60, 610, 4, 4000), 60);  // deep in the cache, what does not fill a tile is dear
    CHECK_EQ(chunk(252, 610, 4, 4000), 250);
    CHECK_EQ(chunk(48, 610), 48);
    CHECK_EQ(chunk(512, 4000, 0), 480);
    // All chunks but the first then fill tiles.
    int32_t n_left = 4000 - chunk(512, 4000, 0);
    for (; n_left > 0; n_left -= chunk(512, n_left, 0)) {
        CHECK_EQ(chunk(512, n_left, 0) % attention_tile, 0);
    }
}

TEST(before_any_measurement_the_end_of_a_prompt_is_cut_off_whole_tiles) {
    const step_budget fresh({budget_limits::automatic, n_ubatch});
    CHECK_EQ(fresh.chunk_size(512, 600, one_prompt(0, 0)), 472);
    CHECK_EQ(fresh.chunk_size(64, 600, one_prompt(0, 0)), 64);
}

TEST(what_is_left_of_a_prompt_is_cut_like_the_rest_of_it) {
    machine deep;
    deep.per_cells = 2;
    busy_engine engine(100, false, 4, deep);
    engine.prefill(4000);
    engine.prefill(4000);
    CHECK_EQ(engine.budget.n_tokens(one_prompt(4, 1200)), 60);
    CHECK(engine.budget.n_tokens(one_prompt(4, 1200, 59)) < 59);
    CHECK_EQ(engine.budget.n_tokens(one_prompt(4, 1200, 8)), 8);
}
