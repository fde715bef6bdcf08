#include "scheduler.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "check.h"
#include "engine_fixture.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

// Below any decode step: chunks of the smallest size while somebody decodes.
constexpr double tight = 0.001;

// Slots without an engine: what is planned counts as decoded, and a slot that reaches its last token generates one.
class board {
  public:
    board(size_t n_slots, schedule_limits limits, double budget_ms) : plans(limits, budget_ms), slots(n_slots) {
        for (size_t i = 0; i < n_slots; ++i) {
            slots[i].id = static_cast<int32_t>(i);
            slots[i].sequence = slots[i].id;
        }
        row_.assign(static_cast<size_t>(demo_model()->n_vocab()), 0.0f);
        row_[500] = 1000.0f;
    }
    ~board() {
        for (slot & each : slots) {
            if (each.running) {
                each.running->finish(finish_reason::cancelled, renderer_);
            }
        }
        renderer_.close();
    }

    // A prompt of n tokens takes the slot.
    void put(size_t id, size_t n_tokens, const lora_set & set = nullptr) {
        slot & target = slots[id];
        if (target.running) {
            target.running->finish(finish_reason::cancelled, renderer_);
        }
        target.cached.keep(0);
        auto asked = request(std::vector<llama_token>(n_tokens, 100), 100000);
        asked.params.lora = set;
        target.running = std::make_unique<generation>(demo_model(), std::move(asked), stream_limits{}, 100000);
        target.running->start(renderer_, 0);
        target.assigned = ++clock_;
    }

    // A slot that decodes.
    void put_decoding(size_t id, const lora_set & set = nullptr) {
        put(id, 1, set);
        take({{&slots[id], 0, 1, true}});
    }

    // A step that takes so many milliseconds, and for each token of a prompt.
    std::vector<chunk> step(double ms = 1, double ms_per_token = 0) {
        const std::vector<chunk> plan = plans.next(slots);
        for (const chunk & part : plan) {
            ms += part.target->state() == slot_state::prefill ? ms_per_token * (part.end - part.begin) : 0;
        }
        run(plan, ms);
        return plan;
    }
    void run(const std::vector<chunk> & plan, double ms) {
        take(plan);
        plans.observe(ms);
    }

    // Of a slot in a plan.
    int32_t n_tokens(const std::vector<chunk> & plan, size_t id) const {
        int32_t n = 0;
        for (const chunk & part : plan) {
            n += part.target == &slots[id] ? part.end - part.begin : 0;
        }
        return n;
    }

    bool prefilling(size_t id) const { return slots[id].state() == slot_state::prefill; }

    scheduler plans;
    std::vector<slot> slots;

  private:
    void take(const std::vector<chunk> & plan) {
        for (const chunk & part : plan) {
            slot & target = *part.target;
            const auto & tokens = target.running->tokens();
            target.cached.append(tokens.begin() + part.begin, tokens.begin() + part.end);
            if (part.wants_logits) {
                target.running->sample(row_.data());
                target.running->advance(renderer_);
            }
        }
    }

    renderer renderer_;
    std::vector<float> row_;
    uint64_t clock_ = 0;
};

// The slots of a plan, each with as many tokens.
std::vector<std::pair<int32_t, int32_t>> sizes(const std::vector<chunk> & plan) {
    std::vector<std::pair<int32_t, int32_t>> found;
    for (const chunk & part : plan) {
        found.emplace_back(part.target->sequence, part.end - part.begin);
    }
    return found;
}

using sizes_of = std::vector<std::pair<int32_t, int32_t>>;

schedule_limits ubatch(int32_t n, bool alternate = false) {
    schedule_limits limits;
    limits.n_ubatch = n;
    limits.alternate = alternate;
    return limits;
}

// Thirty slots that decode, and a prompt that goes so deep into the cache that attention becomes most of a step. Every
// second slot is of another LoRA set, if there is one.
struct deep_prompt {
    explicit deep_prompt(schedule_limits limits, const lora_set & other = nullptr)
        : on(31, limits, budget_limits::automatic) {
        for (size_t id = 0; id < 30; ++id) {
            on.put_decoding(id, id % 2 == 1 ? other : nullptr);
        }
        for (int i = 0; i < 20; ++i) {
            on.step(10);
        }
        on.put(30, 6000);
    }

    // How many slots decoded, and how many of the prompt's tokens were decoded.
    std::pair<int32_t, int32_t> step() {
        const auto n_cells = static_cast<double>(on.slots[30].cached.size());
        const std::vector<chunk> plan = on.plans.next(on.slots);
        const int32_t n = on.n_tokens(plan, 30);
        const auto n_decode = static_cast<int32_t>(plan.size()) - (n > 0 ? 1 : 0);
        const int32_t n_rows = n == 0 ? 0 : attention_rows(n + n_decode < attention_tile ? n : n + n_decode);
        on.run(plan, (n_decode == 0 ? 5 : 10) + 0.05 * n + n_rows * n_cells / 4096 * 2);
        return {n_decode, n};
    }

    board on;
};

}  // namespace

TEST(beside_slots_that_decode_a_prompt_comes_in_chunks) {
    board each(3, ubatch(128), tight);
    each.put_decoding(0);
    each.put_decoding(1);
    each.step();
    each.put(2, 100);
    for (const int32_t n : {62, 16, 16, 6}) {  // at first nothing is known of prompts
        const auto plan = each.step();
        CHECK_EQ(each.n_tokens(plan, 0), 1);
        CHECK_EQ(each.n_tokens(plan, 1), 1);
        CHECK_EQ(each.n_tokens(plan, 2), n);
    }
    CHECK_EQ(each.n_tokens(each.step(), 2), 1);
}

TEST(where_they_take_turns_the_prefill_step_is_cut_as_well) {
    board each(2, ubatch(128, true), tight);
    each.put_decoding(0);
    each.step();
    each.put(1, 100);
    CHECK_EQ(each.n_tokens(each.step(), 1), 64);  // after a decode step; nothing is known of prompts
    for (int i = 0; i < 3; ++i) {
        const auto decode = each.step();
        CHECK_EQ(each.n_tokens(decode, 0), 1);
        CHECK_EQ(each.n_tokens(decode, 1), 0);
        const auto prefill = each.step();
        CHECK_EQ(each.n_tokens(prefill, 0), 0);
        CHECK_EQ(each.n_tokens(prefill, 1), i < 2 ? 16 : 4);
    }
    CHECK(!each.prefilling(1));
}

// When the long prompt is cancelled, one comes that fits beside the thirty.
TEST(where_tiles_are_dear_they_take_turns_and_nobody_waits_for_two_steps_with_prompts) {
    for (const bool lora : {false, true}) {
        schedule_limits limits = ubatch(128);
        limits.lora = lora;
        deep_prompt each(limits);
        bool waited = false;
        for (int n_apart = 0; each.on.prefilling(30); n_apart += waited ? 1 : 0) {
            if (waited && n_apart == 30) {
                each.on.put(30, 5);
            }
            const auto [n_decode, n] = each.step();
            CHECK(n_decode == 30 || (n_decode == 0 && n > 5));
            CHECK(!waited || (n_decode == 30 && n == 0));
            CHECK(n_apart < 31);
            waited = n_decode == 0;
        }
        CHECK_EQ(each.on.slots[30].running->n_prompt(), 5);
    }
}

TEST(of_two_lora_sets_one_has_its_decode_and_its_prefill_by_turns) {
    schedule_limits limits = ubatch(128);
    limits.lora = true;
    deep_prompt each(limits, std::make_shared<const std::vector<float>>(1, 1.0f));
    int n_apart = 0;
    std::array<int, 2> waited = {};
    while (each.on.prefilling(30)) {
        const size_t n_before[2] = {each.on.slots[0].cached.size(), each.on.slots[1].cached.size()};
        const auto [n_decode, n] = each.step();
        CHECK(n_decode == 15 || (n_decode == 0 && n > 0));
        n_apart += n_decode == 0 ? 1 : 0;
        for (size_t set = 0; set < 2; ++set) {
            waited[set] = each.on.slots[set].cached.size() > n_before[set] ? 0 : waited[set] + 1;
        }
        CHECK(waited[0] <= 3);
        CHECK(waited[1] <= 1);
    }
    CHECK(n_apart > 10);
}

TEST(alone_a_prompt_gets_whole_ubatches) {
    for (const bool alternate : {false, true}) {
        board each(2, ubatch(128, alternate), tight);
        each.put(0, 300);
        CHECK_EQ(each.n_tokens(each.step(), 0), 108);  // so that the rest fills attention's tiles
        CHECK_EQ(each.n_tokens(each.step(), 0), 128);
        CHECK_EQ(each.n_tokens(each.step(), 0), 64);
    }
}

TEST(without_a_budget_what_decodes_leaves_the_rest_of_the_ubatch) {
    board each(2, ubatch(256), -1);
    each.put_decoding(0);
    each.put(1, 1000);
    CHECK_EQ(each.n_tokens(each.step(), 1), 255);
    CHECK_EQ(each.n_tokens(each.step(), 1), 255);
}

TEST(chunks_follow_the_time_that_steps_take) {
    board each(2, ubatch(512), 50);
    each.put_decoding(0);
    for (int i = 0; i < 10; ++i) {
        each.step(10);
    }
    each.put(1, 20000);
    int n_alone = 0;
    for (int i = 0; i < 64; ++i) {
        const int32_t n = each.n_tokens(each.step(10, 0.25), 1);
        n_alone += n == 0 ? 1 : 0;
        CHECK(i < 32 || n == 0 || n == 126 || n == 127);
    }
    CHECK_EQ(n_alone, 8);
}

TEST(the_shorter_prompt_goes_first) {
    board each(3, ubatch(128), -1);
    each.put(0, 1000);
    each.put(1, 100);
    each.put(2, 20);
    const auto plan = each.step();
    CHECK_EQ(each.n_tokens(plan, 2), 20);
    CHECK_EQ(each.n_tokens(plan, 1), 100);
    CHECK_EQ(each.n_tokens(plan, 0), 8);
}

TEST(a_prompt_that_others_wait_for_goes_as_early_as_they_would) {
    board each(4, ubatch(128), -1);
    each.put(0, 5000);
    each.put(1, 500);
    each.put(2, 300);
    each.put(3, 300);
    CHECK_EQ(each.n_tokens(each.plans.next(each.slots), 0), 0);
    // Along a chain: the first waits for nobody.
    each.slots[2].awaited = {&each.slots[0], each.slots[0].assigned, 200};
    each.slots[3].awaited = {&each.slots[2], each.slots[2].assigned, 250};
    each.put(3, 100);
    CHECK_EQ(each.n_tokens(each.step(), 0), 128);
}

TEST(prompts_of_one_length_go_in_order_of_arrival) {
    board each(3, ubatch(128), -1);
    each.put(2, 256);
    each.put(0, 256);
    each.put(1, 256);
    std::vector<size_t> order;
    for (int n_steps = 0; n_steps < 10; ++n_steps) {
        each.step();
        for (const size_t id : {0, 1, 2}) {
            if (!each.prefilling(id) && std::find(order.begin(), order.end(), id) == order.end()) {
                order.push_back(id);
            }
        }
    }
    CHECK(order == (std::vector<size_t>{2, 0, 1}));
}

TEST(a_long_prompt_is_passed_by_as_many_tokens_as_it_has) {
    for (const bool alternate : {false, true}) {
        board each(2, ubatch(64, alternate), -1);
        each.put(0, 640);
        int n_steps = 0;
        for (; each.prefilling(0) && n_steps < 1000; ++n_steps) {
            if (!each.prefilling(1)) {
                each.put(1, 64);  // short ones never end
            }
            each.step();
        }
        CHECK(n_steps > 11);
        CHECK(n_steps <= 2 * 640 / 64 + 1);
    }
}

TEST(where_batches_are_split_a_step_is_of_neighbours_with_as_many_tokens) {
    board each(8, ubatch(64, true), -1);
    const std::vector<size_t> lengths = {22, 21, 23, 22, 40, 21, 22, 20};
    for (size_t id = 0; id < lengths.size(); ++id) {
        each.put(id, lengths[id]);
    }
    // The shortest one's turn: as many as fit below it. Then they decode, and the others' last tokens with them.
    CHECK(sizes(each.step()) == (sizes_of{{5, 20}, {6, 20}, {7, 20}}));
    CHECK(sizes(each.step()) == (sizes_of{{5, 1}, {6, 1}, {7, 1}}));
    CHECK(!each.prefilling(5));
    CHECK(each.prefilling(6));
    CHECK(sizes(each.step()) == (sizes_of{{0, 21}, {1, 21}, {2, 21}}));
    // 0 has one token left, 2 has two, and 1 decodes.
    CHECK(sizes(each.step()) == (sizes_of{{0, 1}, {1, 1}, {2, 1}, {5, 1}, {6, 1}, {7, 1}}));
    CHECK(!each.prefilling(0) && each.prefilling(2) && !each.prefilling(6));
    CHECK(sizes(each.step()) == (sizes_of{{3, 22}, {4, 22}}));
    CHECK(sizes(each.step()) == (sizes_of{{0, 1}, {1, 1}, {2, 1}, {3, 1}, {5, 1}, {6, 1}, {7, 1}}));
    CHECK(!each.prefilling(2));
    CHECK(sizes(each.step()) == (sizes_of{{4, 18}}));
}

TEST(where_batches_are_split_others_than_neighbours_go_in_their_order) {
    board each(4, ubatch(40, true), -1);
    for (const size_t id : {0, 3, 2}) {
        each.put(id, 20);
    }
    CHECK(sizes(each.step()) == (sizes_of{{0, 20}, {3, 20}}));
}

TEST(where_batches_are_split_a_prompt_that_was_passed_gets_its_size_alone) {
    board each(6, ubatch(64, true), -1);
    each.put(5, 30);
    for (const size_t id : {0, 1, 2}) {
        each.put(id, 20);
    }
    CHECK(sizes(each.step()) == (sizes_of{{0, 20}, {1, 20}, {2, 20}}));
    for (const size_t id : {0, 1, 2}) {
        each.put(id, 20);
    }
    CHECK(sizes(each.step()) == (sizes_of{{5, 30}}));
}

TEST(last_tokens_that_would_be_a_pass_of_their_own_are_a_step_of_prompts) {
    for (const size_t id : {3, 1}) {
        board each(4, ubatch(64, true), -1);
        each.put_decoding(0);
        each.put(id, 2);
        const bool beside = id == 1;
        CHECK(sizes(each.step()) == (beside ? sizes_of{{0, 1}, {1, 1}} : sizes_of{{0, 1}}));
        CHECK(sizes(each.step()) == (beside ? sizes_of{{0, 1}, {1, 1}} : sizes_of{{3, 2}}));
        CHECK(!each.prefilling(id));
    }
}

TEST(a_checkpoint_s_last_chunk_does_not_go_by_single_tokens) {
    schedule_limits limits = ubatch(64, true);
    limits.n_last = 4;
    board each(2, limits, -1);
    each.put_decoding(0);
    each.put(1, 2);
    CHECK(sizes(each.step()) == (sizes_of{{0, 1}}));
    CHECK(sizes(each.step()) == (sizes_of{{1, 2}}));
}
