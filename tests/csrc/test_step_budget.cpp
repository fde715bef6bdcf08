#include "step_budget.h"

#include <algorithm>

#include "check.h"

using namespace pyllama;

namespace {

constexpr int32_t n_ubatch = 512;

// Steps, and what they take: dearer per token when they are small, and with each cell.
class machine {
  public:
    double slowness = 1;
    double delay = 0;  // of each step, whatever is in it

    double run(const step_load & load) const {
        const double per_token = (load.n_decode + load.n_prompt < 64 ? 0.7 : 0.5) + load.n_cells / 4096 * 0.25;
        return delay + slowness * (10 + 2.0 * load.n_decode + per_token * load.n_prompt);
    }
};

// Four slots that decode, after a while of it, and prompts that come in beside them.
class busy_engine {
  public:
    explicit busy_engine(double budget_ms, bool alternate = false)
        : budget({budget_ms, n_ubatch, alternate}), alternate_(alternate) {
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
            const auto n_cells = static_cast<double>(n_done);
            const int32_t size = std::min(budget.n_tokens({n_decoding, 1, n_cells}), n - n_done);
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

    static constexpr int32_t n_decoding = 4;
    machine host;
    step_budget budget;
    double worst = 0;
    int n_steps = 0;
    int32_t smallest = n_ubatch;

  private:
    bool alternate_;
};

double alone(int32_t n_tokens) {
    double total = 0;
    for (int32_t n_done = 0; n_done < n_tokens; n_done += n_ubatch) {
        total += machine().run({0, std::min(n_ubatch, n_tokens - n_done), static_cast<double>(n_done)});
    }
    return total;
}

}  // namespace

TEST(with_nobody_decoding_or_without_a_budget_a_step_is_a_whole_ubatch) {
    const busy_engine strict(1);
    CHECK_EQ(strict.budget.n_tokens({0, 3, 100}), n_ubatch);
    CHECK(strict.budget.n_tokens({1, 3, 100}) < n_ubatch);
    const busy_engine off(-1);
    CHECK_EQ(off.budget.n_tokens({4, 1, 4000}), n_ubatch);
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
    const step_budget fresh({budget_limits::automatic, n_ubatch, false});
    CHECK_EQ(fresh.n_tokens({1, 1, 0}), 63);
    const step_budget small({budget_limits::automatic, 32, false});
    CHECK_EQ(small.n_tokens({1, 1, 0}), 32);
}

TEST(by_itself_a_prompt_takes_little_longer_than_alone) {
    for (const bool alternate : {false, true}) {
        busy_engine engine(budget_limits::automatic, alternate);
        engine.prefill(4000);
        const double beside = engine.prefill(4000);
        CHECK(beside < 2 * alone(4000));  // tokens of small chunks alone take 1.4 of the time here
        CHECK(engine.worst < 6 * engine.host.run({4, 0, 0}));
    }
}

TEST(many_prompts_get_whole_ubatches) {
    const busy_engine engine(budget_limits::automatic);
    int32_t previous = 0;
    for (const int n_prompts : {1, 2, 4, 8, 16}) {
        const int32_t n = engine.budget.n_tokens({4, n_prompts, 500});
        CHECK(n >= previous);
        previous = n;
    }
    CHECK_EQ(previous, n_ubatch);
    const busy_engine strict(60);  // a time that was asked for holds
    CHECK(strict.budget.n_tokens({4, 16, 500}) <= 64);
}

TEST(a_stall_shrinks_chunks_by_one_size_and_not_for_long) {
    busy_engine engine(100);
    engine.prefill(4000);
    const auto go_on = [&](int n_steps) {
        for (int i = 0; i < n_steps; ++i) {
            engine.observe({4, engine.budget.n_tokens({4, 1, 1000}), 1000});
            engine.observe({4, 0, 0});
        }
    };
    go_on(20);
    const int32_t before = engine.budget.n_tokens({4, 1, 1000});
    engine.budget.observe({4, before, 1000}, 5000);
    engine.budget.observe({4, 0, 0}, 5000);
    CHECK(engine.budget.n_tokens({4, 1, 1000}) >= before - 64);
    go_on(4);
    CHECK_EQ(engine.budget.n_tokens({4, 1, 1000}), before);
}

TEST(a_slow_machine_gets_smaller_chunks_until_it_is_fast_again) {
    busy_engine engine(200);
    engine.prefill(4000);
    const int32_t before = engine.budget.n_tokens({4, 1, 1000});
    engine.host.slowness = 4;
    engine.prefill(4000);
    CHECK(engine.budget.n_tokens({4, 1, 1000}) <= before / 4);
    engine.host.slowness = 1;
    engine.prefill(1000);
    CHECK(engine.budget.n_tokens({4, 1, 1000}) >= before * 3 / 4);
}

TEST(what_every_step_loses_is_not_put_down_to_tokens) {
    busy_engine engine(budget_limits::automatic);
    engine.prefill(4000);
    const int32_t before = engine.budget.n_tokens({4, 1, 1000});
    engine.host.delay = 500;
    engine.prefill(4000);
    CHECK(engine.budget.n_tokens({4, 1, 1000}) > before);
    engine.host.delay = 0;
    for (int i = 0; i < 30; ++i) {
        engine.observe({4, 0, 0});
    }
    engine.prefill(2000);
    CHECK(engine.worst < 6 * engine.host.run({4, 0, 0}));
}

TEST(batches_have_few_sizes) {
    CHECK_EQ(chunk_size(7, 4), 7);
    CHECK_EQ(chunk_size(64, 0), 64);
    CHECK_EQ(chunk_size(64, 4), 60);
    CHECK_EQ(chunk_size(508, 4), 508);
    CHECK_EQ(chunk_size(500, 4), 444);
    CHECK_EQ(chunk_size(10, 60), 4);
    CHECK_EQ(chunk_size(3, 60), 3);
    CHECK_EQ(chunk_size(20, 64), 20);
    busy_engine engine(100);
    busy_engine automatic(budget_limits::automatic);
    for (int32_t n_cells = 0; n_cells < 20000; n_cells += 50) {
        const int32_t n = engine.budget.n_tokens({4, 1, static_cast<double>(n_cells)});
        CHECK(n == 16 || n == 32 || n == 48 || (n + 4) % 64 == 0);
        CHECK_EQ(chunk_size(n, 4), n);
        CHECK_EQ((automatic.budget.n_tokens({4, 1, static_cast<double>(n_cells)}) + 4) % 64, 0);
    }
    CHECK_EQ(automatic.budget.n_tokens({64, 1, 1e9}), 64);
    CHECK_EQ(automatic.budget.n_tokens({70, 1, 1e9}), 58);
}
