// Requests that begin alike: what they share is decoded once and held once, and everybody's tokens are those of a
// request that is alone.
#include <algorithm>
#include <map>
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

constexpr int n_predict = 30;

// What all of them begin with.
std::vector<llama_token> shared_part(size_t n) {
    return prompt(1000, n);
}

// The shared part, then a tail of its own.
std::vector<llama_token> with_tail(size_t n_shared, uint32_t seed, size_t n_tail) {
    auto tokens = shared_part(n_shared);
    tokens.push_back(static_cast<llama_token>(300 + seed));  // no two tails begin alike
    const auto tail = prompt(seed, n_tail - 1);
    tokens.insert(tokens.end(), tail.begin(), tail.end());
    return tokens;
}

std::vector<submitted> submit_all(engine & target, size_t n_shared, uint32_t n, size_t n_tail) {
    std::vector<submitted> handles;
    for (uint32_t seed = 0; seed < n; ++seed) {
        handles.push_back(target.submit(request(with_tail(n_shared, seed, n_tail), n_predict)));
    }
    return handles;
}

void check_all(std::vector<submitted> & handles, size_t n_shared, size_t n_tail) {
    for (uint32_t seed = 0; seed < handles.size(); ++seed) {
        CHECK_EQ(answer(handles[seed]), plain_loop(with_tail(n_shared, seed, n_tail), n_predict, 1024));
    }
}

}  // namespace

TEST(requests_that_arrive_together_decode_their_prefix_once) {
    step_gate gate;
    engine target(demo_model(), engine_params(9, 4608, true), gate.decoder());
    const auto before = target.submit(request(prompt(900, 30), n_predict));
    gate.run(1);
    auto handles = submit_all(target, 400, 8, 40);
    gate.open();
    answer(before);
    check_all(handles, 400, 40);
    CHECK_EQ(target.metrics().n_prompt_tokens.load(), 30u + 400 + 8 * 40);
    CHECK_EQ(target.metrics().n_cached_tokens.load(), 7u * 400);
    CHECK_EQ(target.metrics().n_shared_tokens.load(), 7u * 400);
    CHECK_EQ(target.metrics().n_prefix_refused.load(), 0u);
}

TEST(without_the_flag_and_in_streams_nobody_shares) {
    for (const bool unified : {true, false}) {
        server_params params = engine_params(4, 4096, unified);
        params.share_prefixes = !unified;
        engine target(demo_model(), params);
        auto handles = submit_all(target, 200, 4, 40);
        check_all(handles, 200, 40);
        CHECK_EQ(target.metrics().n_prompt_tokens.load(), 4u * 240);
        CHECK_EQ(target.metrics().n_shared_tokens.load(), 0u);
    }
}

TEST(a_sequence_lends_its_prefix_while_it_decodes) {
    step_gate gate;
    engine target(demo_model(), engine_params(2, 2048, true), gate.decoder());
    const auto first = target.submit(request(with_tail(200, 0, 40), 60));
    gate.run(10);
    const auto second = target.submit(request(with_tail(200, 1, 40), n_predict));
    gate.open();
    CHECK_EQ(answer(first), plain_loop(with_tail(200, 0, 40), 60, 1024));
    CHECK_EQ(answer(second), plain_loop(with_tail(200, 1, 40), n_predict, 1024));
    CHECK_EQ(target.metrics().n_prefix_waits.load(), 0u);
    CHECK_EQ(target.metrics().n_shared_tokens.load(), 200u);
    const auto slots = target.slots();
    CHECK_EQ(slots[1].taken.n, 200);
    CHECK_EQ(slots[1].taken.id_slot, 0);
    CHECK_EQ(slots[0].n_shared, 200);
}

TEST(a_conversation_keeps_its_slot_when_another_shares_its_prefix) {
    engine target(demo_model(), engine_params(3, 2048, true));
    answer(target.submit(request(with_tail(200, 0, 200), n_predict)));
    CHECK_EQ(answer(target.submit(request(with_tail(200, 1, 40), n_predict))),
             plain_loop(with_tail(200, 1, 40), n_predict, 1024));
    // The first one goes on: nothing of it was lost.
    auto next = with_tail(200, 0, 200);
    next.push_back(305);
    const uint64_t n_before = target.metrics().n_prompt_tokens.load();
    answer(target.submit(request(next, 5)));
    CHECK_EQ(target.metrics().n_prompt_tokens.load() - n_before, 1u);
    // And goes on in its own slot.
    CHECK_EQ(target.slots()[2].n_cached, 0);
}

TEST(a_wait_ends_with_the_request_that_is_waited_for) {
    step_gate gate;
    engine target(demo_model(), engine_params(4, 4096, true), gate.decoder());
    auto handles = submit_all(target, 400, 4, 40);
    gate.run(2);
    target.cancel(handles[0].control);
    gate.run(1);
    // The oldest of the others decodes on from what was there, and they wait for it.
    gate.open();
    CHECK_EQ(answer(handles[0]), "cancelled");
    for (uint32_t seed = 1; seed < 4; ++seed) {
        CHECK_EQ(answer(handles[seed]), plain_loop(with_tail(400, seed, 40), n_predict, 1024));
    }
    CHECK(target.metrics().n_prompt_tokens.load() <= 400u + 4 * 40);
}

TEST(who_waits_can_be_cancelled) {
    step_gate gate;
    engine target(demo_model(), engine_params(3, 4096, true), gate.decoder());
    auto handles = submit_all(target, 400, 3, 40);
    gate.run(1);
    target.cancel(handles[1].control);
    gate.open();
    CHECK_EQ(answer(handles[1]), "cancelled");
    CHECK_EQ(answer(handles[0]), plain_loop(with_tail(400, 0, 40), n_predict, 1024));
    CHECK_EQ(answer(handles[2]), plain_loop(with_tail(400, 2, 40), n_predict, 1024));
    CHECK_EQ(target.metrics().n_prefix_waits.load(), 2u);
    wait_until_idle(target);
}

TEST(a_prefix_of_another_lora_set_is_not_shared) {
    const auto source = model_with_adapters(1);
    engine target(source, engine_params(4, 4096, true));
    std::vector<submitted> handles;
    const std::vector<std::vector<float>> sets = {{0}, {1}, {0}, {1}};
    for (uint32_t i = 0; i < 4; ++i) {
        auto made = request(with_tail(200, i, 40), n_predict);
        made.params.lora = std::make_shared<const std::vector<float>>(sets[i]);
        handles.push_back(target.submit(std::move(made)));
    }
    for (uint32_t i = 0; i < 4; ++i) {
        plain_options options;
        options.scales = sets[i];
        CHECK_EQ(answer(handles[i]), plain_run(*source, with_tail(200, i, 40), n_predict, options));
    }
    CHECK_EQ(target.metrics().n_shared_tokens.load(), 2u * 200);
    // Nor from sequences that are whole.
    auto made = request(with_tail(200, 4, 40), n_predict);
    made.params.lora = std::make_shared<const std::vector<float>>(std::vector<float>{0.5f});
    plain_options options;
    options.scales = {0.5f};
    CHECK_EQ(answer(target.submit(std::move(made))), plain_run(*source, with_tail(200, 4, 40), n_predict, options));
    CHECK_EQ(target.metrics().n_shared_tokens.load(), 2u * 200);
}

TEST(a_request_that_wants_no_cache_takes_nothing) {
    engine target(demo_model(), engine_params(2, 2048, true));
    auto first = request(with_tail(200, 0, 40), n_predict);
    auto second = request(with_tail(200, 1, 40), n_predict);
    second.params.cache_prompt = false;
    const auto a = target.submit(std::move(first));
    const auto b = target.submit(std::move(second));
    CHECK_EQ(answer(a), plain_loop(with_tail(200, 0, 40), n_predict, 1024));
    CHECK_EQ(answer(b), plain_loop(with_tail(200, 1, 40), n_predict, 1024));
    CHECK_EQ(target.metrics().n_prompt_tokens.load(), 480u);
}

TEST(cells_that_are_shared_are_not_moved) {
    server_params params = engine_params(2, 512, true);
    params.common.kv_unified_per_slot = 256;
    params.common.ctx_shift = true;
    step_gate gate;
    engine target(demo_model(), params, gate.decoder());
    plain_options options;
    options.n_ctx = 256;
    options.shift = true;
    options.n_keep = 10;
    const auto tokens = prompt(6, 120);
    const auto keeping = [&] {
        auto made = request(tokens, 200);
        made.params.n_keep = 10;
        return made;
    };
    const auto first = target.submit(keeping());
    const auto second = target.submit(keeping());
    gate.run(1);
    gate.open();
    const std::string moved = plain_run(*demo_model(), tokens, 200, options);
    options.recompute = true;
    const std::string recomputed = plain_run(*demo_model(), tokens, 200, options);
    // The first to be full finds its cells shared; then they are not any more.
    CHECK_EQ(answer(first), recomputed);
    CHECK_EQ(answer(second), moved);
    CHECK_EQ(target.metrics().n_shared_tokens.load(), 119u);
}

TEST(shared_cells_leave_room_for_others) {
    // Six times 400 and the tails would not fit, once does.
    step_gate gate;
    engine target(demo_model(), engine_params(6, 1024, true), gate.decoder());
    auto handles = submit_all(target, 400, 6, 40);
    gate.run(2);
    const int64_t n_running = target.metrics().n_running.load();
    gate.open();
    CHECK_EQ(n_running, 6);
    check_all(handles, 400, 40);
    CHECK_EQ(target.metrics().n_parked.load(), 0u);
}

TEST(what_others_hold_too_is_not_copied_to_host_memory) {
    server_params params = engine_params(3, 512, true);
    params.common.cache_ram_mib = -1;
    engine target(demo_model(), params);
    answer(target.submit(request(with_tail(320, 0, 20), 60)));
    // Takes what the first one began with, and then the first one's other cells.
    auto second = request(with_tail(320, 1, 40), 100);
    second.params.id_slot = 1;
    CHECK_EQ(answer(target.submit(std::move(second))), plain_loop(with_tail(320, 1, 40), 100, 1024));
    CHECK_EQ(target.slots()[0].n_cached, 0);
    CHECK_EQ(target.budget().used(memory_part::prefixes), 0u);
    // What nobody else holds is.
    answer(target.submit(request(prompt(3, 400), 5)));
    CHECK(target.budget().used(memory_part::prefixes) > 0u);
}

TEST(the_idle_cache_that_was_unused_for_longest_goes_first) {
    engine target(demo_model(), engine_params(3, 512, true));
    for (const uint32_t seed : {0, 1}) {
        auto made = request(prompt(seed, 60), n_predict);
        made.params.id_slot = static_cast<int32_t>(seed);
        answer(target.submit(std::move(made)));
    }
    answer(target.submit(request(prompt(2, 200), 100)));
    CHECK_EQ(target.slots()[0].n_cached, 89);
    CHECK_EQ(target.slots()[2].n_cached, 299);
    // There are cells for this one and one of the two.
    auto longer = request(prompt(2, 200), 180);
    longer.params.id_slot = 2;
    answer(target.submit(std::move(longer)));
    const auto slots = target.slots();
    CHECK_EQ(slots[0].n_cached, 0);
    CHECK_EQ(slots[1].n_cached, 89);
}

TEST(what_costs_more_to_compute_counts_for_younger) {
    engine target(demo_model(), engine_params(3, 2048, true));
    const auto ask = [&](uint32_t seed, size_t n_tokens, int32_t id_slot) {
        auto made = request(prompt(seed, n_tokens), 1);
        made.params.id_slot = id_slot;
        answer(target.submit(std::move(made)));
    };
    ask(0, 1000, 0);
    ask(1, 60, 1);
    for (uint32_t i = 0; i < 30; ++i) {
        ask(2 + i, 40, 2);
    }
    // The long one is the older one by a little. There are cells for either of the two beside this one.
    ask(40, 1000, 2);
    CHECK_EQ(target.slots()[0].n_cached, 1000);
    CHECK_EQ(target.slots()[1].n_cached, 0);
}

TEST(a_prompt_that_is_asked_again_loses_its_own_answer_and_not_another_conversation) {
    engine target(demo_model(), engine_params(2, 2048, true));
    answer(target.submit(request(prompt(1, 200), 20)));
    answer(target.submit(request(prompt(2, 100), 100)));
    CHECK_EQ(target.slots()[0].n_cached, 219);
    CHECK_EQ(target.slots()[1].n_cached, 199);
    CHECK_EQ(answer(target.submit(request(prompt(2, 100), 20))), plain_loop(prompt(2, 100), 20, 1024));
    CHECK_EQ(target.slots()[0].n_cached, 219);
    CHECK_EQ(target.slots()[1].n_cached, 119);
}

TEST(what_comes_back_from_host_memory_shares_the_cells_that_are_there) {
    server_params params = engine_params(2, 2048, true);
    params.common.cache_ram_mib = -1;
    engine target(demo_model(), params);
    auto first = with_tail(200, 0, 200);
    answer(target.submit(request(first, 20)));
    // Takes the first 200 of its cells, and sends the others to host memory.
    auto made = request(with_tail(200, 1, 40), 100000);
    made.params.id_slot = 1;
    const auto running = target.submit(std::move(made));
    wait_for_bytes(running, 1);
    CHECK_EQ(target.slots()[0].n_cached, 0);
    first.push_back(first.front());
    auto again = request(first, 20);
    again.params.id_slot = 0;
    CHECK_EQ(answer(target.submit(std::move(again))), plain_loop(first, 20, 1024));
    const auto slots = target.slots();
    CHECK(slots[0].taken.from_host);
    CHECK(slots[1].busy);
    CHECK_EQ(slots[0].n_shared, 200);
    target.cancel(running.control);
    answer(running);
}

TEST(eight_requests_that_need_twice_the_cache_all_finish) {
    for (const int32_t mib : {0, -1}) {
        server_params params = engine_params(8, 512, true);
        params.common.cache_ram_mib = mib;
        engine target(demo_model(), params);
        std::vector<submitted> handles;
        for (uint32_t seed = 0; seed < 8; ++seed) {
            handles.push_back(target.submit(request(prompt(seed, 60), 68)));
        }
        for (uint32_t seed = 0; seed < 8; ++seed) {
            CHECK_EQ(answer(handles[seed]), plain_loop(prompt(seed, 60), 68, 1024));
        }
        CHECK_EQ(target.metrics().n_finished.load(), 8u);
        CHECK_EQ(target.metrics().n_failed.load(), 0u);
        CHECK(target.metrics().n_parked.load() > 0u);
    }
}

TEST(who_opted_in_hears_of_being_parked) {
    engine target(demo_model(), engine_params(4, 512, true));
    std::vector<submitted> handles;
    for (uint32_t seed = 0; seed < 4; ++seed) {
        auto made = request(prompt(seed, 90), 150);
        made.params.sampling.reasoning_control = seed > 0;
        handles.push_back(target.submit(std::move(made)));
    }
    size_t n_parked = 0;
    for (uint32_t seed = 0; seed < 4; ++seed) {
        std::string text = answer(handles[seed]);
        for (size_t begin; (begin = text.find("<park ")) != std::string::npos; ++n_parked) {
            const size_t end = text.find("> ", begin) + 2;
            const std::string at = text.substr(begin + 5, end - begin - 5);
            // It goes on where it stopped: no token lies between the two.
            CHECK_EQ(text.substr(end, 7), "<unpark");
            CHECK_EQ(text.substr(end + 7, at.size()), at);
            text.erase(begin, end - begin + 7 + at.size());
            CHECK(seed > 0);
        }
        CHECK_EQ(text, plain_loop(prompt(seed, 90), 150, 1024));
    }
    CHECK_EQ(target.metrics().n_parked.load(), n_parked);
    CHECK(n_parked > 0u);
}

// Random prompts from few beginnings, in a cache that is too small for all of them.
TEST(whatever_is_shared_parked_and_cancelled_everybody_gets_its_own_tokens) {
    std::map<std::pair<uint32_t, uint32_t>, std::string> expected;
    for (uint32_t round = 0; round < 4; ++round) {
        random_source random(round);
        server_params params = engine_params(6, 768, true);
        params.common.cache_ram_mib = round % 2 == 0 ? 0 : 1;
        engine target(demo_model(), params);
        std::vector<std::pair<submitted, std::pair<uint32_t, uint32_t>>> handles;
        std::vector<bool> cancelled;
        for (int i = 0; i < 60; ++i) {
            const std::pair<uint32_t, uint32_t> kind = {random.below(4), random.below(5)};
            const auto tokens = with_tail(50 + 90 * kind.first, kind.second, 20 + 30 * (kind.second % 3));
            handles.emplace_back(target.submit(request(tokens, n_predict)), kind);
            cancelled.push_back(random.one_in(6));
            if (cancelled.back()) {
                target.cancel(handles[handles.size() - 1].first.control);
            }
            if (random.one_in(4)) {
                answer(handles[random.below(static_cast<uint32_t>(handles.size()))].first);
            }
        }
        for (size_t i = 0; i < handles.size(); ++i) {
            const auto & [handle, kind] = handles[i];
            const std::string text = answer(handle);
            if (!cancelled[i]) {
                std::string & wanted = expected[kind];
                if (wanted.empty()) {
                    wanted = plain_loop(with_tail(50 + 90 * kind.first, kind.second, 20 + 30 * (kind.second % 3)),
                                        n_predict, 1024);
                }
                CHECK_EQ(text, wanted);
            }
        }
        CHECK_EQ(target.metrics().n_failed.load(), 0u);
        CHECK(target.metrics().n_shared_tokens.load() > 0u);
        wait_until_idle(target);
    }
}
