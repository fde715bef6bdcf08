// Sequences that lost their slot and come back from host memory: the tokens are those of a prefill.
#include <string>
#include <vector>

#include "check.h"
#include "engine.h"
#include "engine_fixture.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

server_params caching(int n_slots, int n_ctx, bool unified, int32_t mib) {
    server_params params = engine_params(n_slots, n_ctx, unified);
    params.common.cache_ram_mib = mib;
    return params;
}

}  // namespace

TEST(a_prompt_that_lost_its_slot_is_not_computed_again) {
    for (const bool unified : {true, false}) {
        const int n_slots = unified ? 1 : 2;
        engine target(demo_model(), caching(n_slots, 1024 * n_slots, unified, -1));
        std::vector<std::vector<llama_token>> prompts;
        for (uint32_t seed = 0; seed < 4; ++seed) {
            prompts.push_back(prompt(seed, 150 + seed * 20));
            CHECK_EQ(answer(target.submit(request(prompts[seed], 20))), plain_loop(prompts[seed], 20, 1024));
        }
        const uint64_t n_computed = target.metrics().n_prompt_tokens.load();
        for (uint32_t seed = 0; seed < 4; ++seed) {
            CHECK_EQ(answer(target.submit(request(prompts[seed], 20))), plain_loop(prompts[seed], 20, 1024));
        }
        CHECK_EQ(target.metrics().n_prompt_tokens.load() - n_computed, 4u);
    }
}

// Separate streams are copied by the next decode, also when nobody has a use for the copy any more.
TEST(a_copy_that_comes_late_overwrites_nothing_that_came_back) {
    engine target(demo_model(), caching(2, 2048, false, -1));
    const auto in_slot = [](const std::vector<llama_token> & tokens, int n, int id_slot) {
        auto made = request(tokens, n);
        made.params.id_slot = id_slot;
        return made;
    };
    const auto tokens = prompt(1, 150);
    const std::string text = plain_loop(tokens, 20, 1024);
    for (const int id_slot : {0, 1}) {
        CHECK_EQ(answer(target.submit(in_slot(tokens, 20, id_slot))), text);
        // Both slots' choices end with their first token, before another decode; the request behind them waits for
        // that.
        const auto copied = target.submit(request(prompt(2 + static_cast<uint32_t>(id_slot), 800), 1, 2));
        const auto waiting = target.submit(in_slot(tokens, 20, id_slot));
        answers(copied, 2);
        CHECK_EQ(answer(waiting), text);
        CHECK(target.slots()[static_cast<size_t>(id_slot)].taken.from_host);
    }
}

TEST(without_memory_it_is_computed_again) {
    engine target(demo_model(), caching(1, 1024, true, 0));
    for (int round = 0; round < 2; ++round) {
        for (uint32_t seed = 0; seed < 2; ++seed) {
            answer(target.submit(request(prompt(seed, 150), 5)));
        }
    }
    // But for what two prompts begin with alike.
    CHECK(target.metrics().n_prompt_tokens.load() > 500u);
}

TEST(a_request_that_wants_no_cache_gets_none) {
    engine target(demo_model(), caching(1, 1024, true, -1));
    answer(target.submit(request(prompt(0, 150), 5)));
    answer(target.submit(request(prompt(1, 150), 5)));
    const uint64_t n_cached = target.metrics().n_cached_tokens.load();
    auto made = request(prompt(0, 150), 20);
    made.params.cache_prompt = false;
    CHECK_EQ(answer(target.submit(std::move(made))), plain_loop(prompt(0, 150), 20, 1024));
    CHECK_EQ(target.metrics().n_cached_tokens.load(), n_cached);
}

TEST(parked_requests_come_back_with_their_cells) {
    engine target(demo_model(), caching(4, 512, true, -1));
    std::vector<submitted> handles;
    for (uint32_t seed = 0; seed < 4; ++seed) {
        handles.push_back(target.submit(request(prompt(seed, 90), 150)));
    }
    for (uint32_t seed = 0; seed < 4; ++seed) {
        CHECK_EQ(answer(handles[seed]), plain_loop(prompt(seed, 90), 150, 1024));
    }
    CHECK(target.metrics().n_parked.load() > 0);
    CHECK_EQ(target.metrics().n_prompt_tokens.load(), 360u);
}

TEST(idle_slots_of_a_unified_cache_give_way) {
    engine target(demo_model(), caching(2, 2048, true, -1));
    auto first = request(prompt(0, 150), 5);
    first.params.id_slot = 0;
    answer(target.submit(std::move(first)));
    auto second = request(prompt(1, 150), 5);
    second.params.id_slot = 1;
    answer(target.submit(std::move(second)));
    const auto slots = target.slots();
    CHECK_EQ(slots[0].n_cached, 0);
    CHECK_EQ(slots[1].n_cached, 154);
    CHECK_EQ(answer(target.submit(request(prompt(0, 150), 20))), plain_loop(prompt(0, 150), 20, 1024));
    CHECK_EQ(target.metrics().n_cached_tokens.load(), 149u);
}

TEST(the_cache_keeps_to_its_limit) {
    engine target(demo_model(), engine_params(1, 2048, true));
    common_params params = engine_params(1, 2048, true).common;
    const auto context = decoder(*demo_model(), params);
    const auto budget = std::make_shared<byte_budget>(0);
    prompt_cache cache(budget, 1);
    slot filled;
    const auto tokens = prompt(0, 600);
    for (int i = 0; i < 8; ++i) {
        clear_cache(context.context(), filled);
        std::vector<llama_token> own(tokens.begin() + i, tokens.begin() + i + 400);
        for (size_t begin = 0; begin < own.size(); begin += 100) {
            CHECK_EQ(llama_decode(context.context(), llama_batch_get_one(own.data() + begin, 100)), 0);
        }
        filled.cached.assign(own.begin(), own.end());
        CHECK(cache.keep(context.context(), filled));
        CHECK(!cache.keep(context.context(), filled));
        CHECK(budget->used(memory_part::prefixes) <= size_t{1} << 20);
    }
    CHECK(cache.size() >= 1 && cache.size() < 8);
    prompt_cache small(budget, 0);
    CHECK(!small.keep(context.context(), filled));
}

TEST(a_sequence_that_grew_takes_the_place_of_its_beginning) {
    common_params params = engine_params(1, 2048, true).common;
    const auto context = decoder(*demo_model(), params);
    auto tokens = prompt(0, 200);
    const auto grown_bytes = std::make_shared<byte_budget>(0);
    const auto at_once_bytes = std::make_shared<byte_budget>(0);
    prompt_cache grown(grown_bytes, -1);
    prompt_cache at_once(at_once_bytes, -1);
    slot filled;
    for (size_t begin = 0; begin < tokens.size(); begin += 100) {
        CHECK_EQ(llama_decode(context.context(), llama_batch_get_one(tokens.data() + begin, 100)), 0);
        filled.cached.append(tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                             tokens.begin() + static_cast<std::ptrdiff_t>(begin) + 100);
        CHECK(grown.keep(context.context(), filled));
    }
    CHECK(at_once.keep(context.context(), filled));
    CHECK_EQ(grown.size(), 1u);
    CHECK_EQ(grown_bytes->used(), at_once_bytes->used());
}
