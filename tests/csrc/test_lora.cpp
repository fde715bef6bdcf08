// Requests under different LoRA sets: each gives what it gives alone, and nothing computed under one is used by
// another.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "check.h"
#include "engine.h"
#include "engine_fixture.h"
#include "lora_fixture.h"
#include "plain_run.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

constexpr int n_predict = 24;

std::shared_ptr<const model> adapted() {
    static const std::shared_ptr<const model> loaded = model_with_adapters(2);
    return loaded;
}

const std::vector<std::vector<float>> & sets() {
    static const std::vector<std::vector<float>> all = {{0, 0}, {1, 0}, {0, 1}, {0.5f, 0.5f}};
    return all;
}

lora_set set_of(const std::vector<float> & scales) {
    return std::make_shared<const std::vector<float>>(scales);
}

prepared_request under(const std::vector<float> & scales, const std::vector<llama_token> & tokens, int n = n_predict) {
    auto made = request(tokens, n);
    made.params.lora = set_of(scales);
    return made;
}

std::string expected(const std::vector<float> & scales, const std::vector<llama_token> & tokens, int n = n_predict) {
    plain_options options;
    options.scales = scales;
    return plain_run(*adapted(), tokens, n, options);
}

void check_equal_among_others(bool unified) {
    engine target(adapted(), engine_params(4, 4096, unified));
    std::vector<submitted> handles;
    for (uint32_t i = 0; i < 12; ++i) {
        handles.push_back(target.submit(under(sets()[i % 4], prompt(i / 4, 60 + i * 30))));
    }
    for (uint32_t i = 0; i < 12; ++i) {
        CHECK_EQ(answer(handles[i]), expected(sets()[i % 4], prompt(i / 4, 60 + i * 30)));
    }
}

// The logits behind a prompt.
std::vector<float> row_under(const std::vector<float> & scales) {
    auto params = llama_context_default_params();
    params.n_ctx = 256;
    params.n_threads = params.n_threads_batch = 1;
    const llama_context_ptr context(llama_init_from_model(adapted()->handle(), params));
    apply_lora(context.get(), adapted()->params(), set_of(scales));
    auto tokens = prompt(0, 60);
    CHECK_EQ(llama_decode(context.get(), llama_batch_get_one(tokens.data(), static_cast<int32_t>(tokens.size()))), 0);
    const float * row = llama_get_logits_ith(context.get(), -1);
    return {row, row + adapted()->n_vocab()};
}

}  // namespace

TEST(every_set_makes_another_model) {
    for (size_t i = 0; i < sets().size(); ++i) {
        for (size_t k = 0; k < i; ++k) {
            const auto a = row_under(sets()[i]);
            const auto b = row_under(sets()[k]);
            float most = 0;
            for (size_t n = 0; n < a.size(); ++n) {
                most = std::max(most, std::abs(a[n] - b[n]));
            }
            CHECK(most > 0.1f);
        }
    }
}

TEST(requests_of_different_sets_equal_single_ones_in_a_unified_cache) {
    check_equal_among_others(true);
}

TEST(requests_of_different_sets_equal_single_ones_in_streams) {
    check_equal_among_others(false);
}

TEST(a_prefix_that_was_computed_under_another_set_is_not_reused) {
    engine target(adapted(), engine_params(1, 1024, true));
    const auto tokens = prompt(1, 200);
    for (const auto & scales : sets()) {
        CHECK_EQ(answer(target.submit(under(scales, tokens))), expected(scales, tokens));
    }
    CHECK_EQ(target.metrics().n_cached_tokens.load(), 0u);
    CHECK_EQ(answer(target.submit(under(sets().back(), tokens))), expected(sets().back(), tokens));
    CHECK_EQ(target.metrics().n_cached_tokens.load(), 199u);
}

TEST(host_memory_keeps_a_prompt_of_each_set_apart) {
    server_params params = engine_params(1, 1024, true);
    params.common.cache_ram_mib = -1;
    engine target(adapted(), params);
    const auto tokens = prompt(0, 150);
    const auto ask = [&](size_t set) {
        const uint64_t n_before = target.metrics().n_cached_tokens.load();
        CHECK_EQ(answer(target.submit(under(sets()[set], tokens))), expected(sets()[set], tokens));
        const uint64_t n_taken = target.metrics().n_cached_tokens.load() - n_before;
        answer(target.submit(under(sets()[0], prompt(7, 150))));  // takes the slot
        return n_taken;
    };
    for (const size_t set : {1, 2}) {
        CHECK_EQ(ask(set), 0u);
    }
    for (const size_t set : {2, 1, 1, 2}) {
        CHECK_EQ(ask(set), 149u);
    }
}

TEST(hot_scales_hold_for_what_is_submitted_later) {
    step_gate gate;
    engine target(adapted(), engine_params(1, 1024, true), gate.decoder());
    const auto tokens = prompt(2, 60);
    const auto before = target.submit(request(tokens, n_predict));
    const auto waiting = target.submit(request(tokens, n_predict));
    gate.run(1);
    target.set_lora(set_of(sets()[1]));
    const auto after = target.submit(request(tokens, n_predict));
    gate.open();
    CHECK_EQ(answer(before), expected(sets()[0], tokens));
    CHECK_EQ(answer(waiting), expected(sets()[0], tokens));
    CHECK_EQ(answer(after), expected(sets()[1], tokens));
}

TEST(choices_share_their_set) {
    engine target(adapted(), engine_params(3, 3072, true));
    const auto tokens = prompt(3, 100);
    auto made = request(tokens, n_predict, 3);
    made.params.lora = set_of(sets()[2]);
    for (const std::string & text : answers(target.submit(std::move(made)), 3)) {
        CHECK_EQ(text, expected(sets()[2], tokens));
    }
}

TEST(no_set_waits_for_more_steps_than_there_are_sets) {
    for (const bool alternate : {false, true}) {
        schedule_limits limits;
        limits.n_ubatch = 64;
        limits.alternate = alternate;
        limits.lora = true;
        scheduler plans(limits);
        std::vector<slot> slots(6);
        for (size_t i = 0; i < slots.size(); ++i) {
            slots[i].id = static_cast<int32_t>(i);
            slots[i].assigned = i + 1;
            slots[i].running =
                std::make_unique<generation>(adapted(), under(sets()[i % 3], prompt(0, 2000)), stream_limits{}, 4096);
        }
        std::vector<int> waited(slots.size());
        for (int step = 0; step < 60; ++step) {
            const auto plan = plans.next(slots);
            CHECK(!plan.empty());
            for (int & n : waited) {
                ++n;
            }
            for (const chunk & part : plan) {
                CHECK(same_set(part.target->running->params().lora, plan.front().target->running->params().lora));
                const auto & tokens = part.target->running->tokens();
                part.target->cached.assign(tokens.begin(), tokens.begin() + part.end);
                waited[static_cast<size_t>(part.target->id)] = 0;
            }
            // Of the slots of a set one prefills at a time; each set has its turn.
            for (size_t set = 0; set < 3; ++set) {
                CHECK(std::min(waited[set], waited[set + 3]) <= 3);
            }
        }
    }
}

TEST(lists_of_scales_are_checked) {
    const auto read = [](const char * text, size_t n = 2) { return read_lora(common_json::parse(text), n, "lora"); };
    CHECK(*read(R"([{"id":1,"scale":0.5}])") == (std::vector<float>{0, 0.5f}));
    CHECK(*read("[]") == (std::vector<float>{0, 0}));
    CHECK(read("[]", 0) == nullptr);
    for (const char * bad : {"{}", "[1]", R"([{"id":0}])", R"([{"scale":1}])", R"([{"id":2,"scale":1}])",
                             R"([{"id":-1,"scale":1}])", R"([{"id":0,"scale":"1"}])", R"([{"id":0,"scale":1e9}])"}) {
        CHECK_THROWS(error, read(bad));
    }
}
