// Requests for several choices: one prefill, then every choice is what a request of its own would give; slots are
// found for all of them, and nothing is left of them.
#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "engine.h"
#include "engine_fixture.h"
#include "gated_decoder.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

constexpr int n_predict = 40;

void check_all_equal(const submitted & handle, int n_choices, const std::string & expected) {
    for (const std::string & text : answers(handle, n_choices)) {
        CHECK_EQ(text, expected);
    }
}

void check_equal_among_others(bool unified) {
    engine target(demo_model(), engine_params(5, 5120, unified));
    std::vector<submitted> handles;
    for (uint32_t seed = 0; seed < 9; ++seed) {
        handles.push_back(target.submit(request(prompt(seed, 5 + seed * 30), n_predict, seed % 2 == 0 ? 1 : 3)));
    }
    for (uint32_t seed = 0; seed < 9; ++seed) {
        const std::string expected = plain_loop(prompt(seed, 5 + seed * 30), n_predict, 1024);
        if (seed % 2 == 0) {
            CHECK_EQ(answer(handles[seed]), expected);
        } else {
            check_all_equal(handles[seed], 3, expected);
        }
    }
    CHECK_EQ(target.metrics().n_requests.load(), 9u);
    CHECK_EQ(target.metrics().n_finished.load(), 9u);
}

prepared_request sampled(uint32_t seed, int n_choices) {
    auto made = request(prompt(3, 120), n_predict, n_choices);
    made.params.sampling.temp = 3.0f;
    made.params.sampling.top_p = 1.0f;
    made.params.sampling.min_p = 0.0f;
    made.params.sampling.seed = seed;
    return made;
}

bool accepted(const submitted & handle) {
    return handle.session->state() == session_state::accepted;
}

// Two answers are two steps: whoever could get a slot has got it.
void let_admit(engine & target) {
    target.slots();
    target.slots();
}

}  // namespace

TEST(greedy_choices_equal_a_single_request_in_a_unified_cache) {
    check_equal_among_others(true);
}

TEST(greedy_choices_equal_a_single_request_in_streams) {
    check_equal_among_others(false);
}

TEST(the_prompt_is_decoded_once) {
    for (const bool unified : {true, false}) {
        engine target(demo_model(), engine_params(4, 4096, unified));
        const auto handle = target.submit(request(prompt(1, 300), n_predict, 4));
        check_all_equal(handle, 4, plain_loop(prompt(1, 300), n_predict, 1024));
        CHECK_EQ(target.metrics().n_prompt_tokens.load(), 300u);
        CHECK_EQ(target.metrics().n_generated_tokens.load(), 4u * n_predict);
        wait_until_idle(target);
        for (const auto & info : target.slots()) {
            CHECK_EQ(info.n_cached, 300 + n_predict - 1);
        }
    }
}

TEST(choices_after_a_prefix_hit_are_the_same) {
    for (const bool unified : {true, false}) {
        engine target(demo_model(), engine_params(3, 3072, unified));
        auto tokens = prompt(5, 200);
        answer(target.submit(request(tokens, 10)));
        const auto tail = prompt(6, 30);
        tokens.insert(tokens.end(), tail.begin(), tail.end());
        const std::string expected = plain_loop(tokens, n_predict, 1024);
        check_all_equal(target.submit(request(tokens, n_predict, 3)), 3, expected);
        CHECK_EQ(target.metrics().n_cached_tokens.load(), 200u);
        CHECK_EQ(target.metrics().n_prompt_tokens.load(), 230u);
        check_all_equal(target.submit(request(tokens, n_predict, 2)), 2, expected);
        CHECK_EQ(target.metrics().n_prompt_tokens.load(), 231u);
    }
}

TEST(choice_k_is_what_the_seed_plus_k_gives) {
    for (const bool unified : {true, false}) {
        engine target(demo_model(), engine_params(3, 3072, unified));
        const auto texts = answers(target.submit(sampled(7, 3)), 3);
        for (uint32_t k = 0; k < 3; ++k) {
            CHECK_EQ(texts[k], answer(target.submit(sampled(7 + k, 1))));
        }
        CHECK(texts[0] != texts[1] && texts[0] != texts[2] && texts[1] != texts[2]);
    }
}

TEST(a_parked_choice_is_recomputed_alone) {
    engine target(demo_model(), engine_params(4, 512, true));
    const auto group = target.submit(request(prompt(1, 90), 150, 3));
    const auto single = target.submit(request(prompt(2, 90), 150));
    check_all_equal(group, 3, plain_loop(prompt(1, 90), 150, 1024));
    CHECK_EQ(answer(single), plain_loop(prompt(2, 90), 150, 1024));
    CHECK(target.metrics().n_parked.load() > 0);
    wait_until_idle(target);
}

TEST(shared_cells_count_once) {
    engine target(demo_model(), engine_params(4, 2048, true));
    const auto group = target.submit(request(prompt(1, 600), 100000, 3));
    wait_for_bytes(group, 1);
    // Three times 600 and this one would not fit.
    const auto single = target.submit(request(prompt(2, 400), 100000));
    let_admit(target);
    const auto infos = target.slots();
    CHECK(std::all_of(infos.begin(), infos.end(), [](const slot_info & info) { return info.busy; }));
    target.cancel(group.control);
    target.cancel(single.control);
    answer(group);
    answer(single);
}

TEST(a_cancel_ends_all_choices_and_leaves_the_neighbour_alone) {
    engine target(demo_model(), engine_params(4, 4096, true));
    const auto group = target.submit(request(prompt(7, 50), 100000, 3));
    const auto handle = target.submit(request(prompt(8, 50), n_predict));
    wait_for_bytes(group, 100);
    target.cancel(group.control);
    CHECK_EQ(answer(handle), plain_loop(prompt(8, 50), n_predict, 1024));
    for (const std::string & text : answers(group, 3)) {
        CHECK_EQ(text.substr(text.size() - 9), "cancelled");
    }
    CHECK_EQ(target.metrics().n_cancelled.load(), 1u);
    CHECK_EQ(target.metrics().n_finished.load(), 1u);
}

TEST(a_request_in_prefill_shows_its_slots_and_can_be_cancelled) {
    const auto gate = std::make_shared<decode_gate>(2);
    engine target(demo_model(), engine_params(4, 2048, true), gated(gate));
    const auto group = target.submit(request(prompt(7, 300), n_predict, 3));
    gate->wait_until_reached();
    target.cancel(group.control);
    std::vector<slot_info> infos;
    std::thread asking([&] { infos = target.slots(); });
    gate->open();
    asking.join();
    int n_busy = 0;
    int n_reserved = 0;
    for (const auto & info : infos) {
        n_busy += info.busy ? 1 : 0;
        n_reserved += info.state == "reserved" ? 1 : 0;
        CHECK(!info.busy || info.request_id == group.id);
    }
    // The answer is from before the cancel's step, or from after it.
    CHECK(n_busy == 0 || (n_busy == 3 && n_reserved == 2));
    for (const std::string & text : answers(group, 3)) {
        CHECK_EQ(text, "cancelled");
    }
    wait_until_idle(target);
    check_all_equal(target.submit(request(prompt(7, 300), n_predict, 4)), 4,
                    plain_loop(prompt(7, 300), n_predict, 1024));
}

TEST(a_queued_request_is_cancelled_with_all_its_choices) {
    engine target(demo_model(), engine_params(2, 2048, true));
    const auto first = target.submit(request(prompt(1, 20), 100000));
    wait_for_bytes(first, 1);
    const auto group = target.submit(request(prompt(2, 20), 10, 2));
    let_admit(target);
    CHECK(accepted(group));
    target.cancel(group.control);
    for (const std::string & text : answers(group, 2)) {
        CHECK_EQ(text, "cancelled");
    }
    target.cancel(first.control);
    answer(first);
    wait_until_idle(target);
}

TEST(later_requests_pass_a_waiting_group_and_then_wait_for_it) {
    engine target(demo_model(), engine_params(2, 2048, true));
    const auto running = target.submit(request(prompt(1, 20), 100000));
    wait_for_bytes(running, 1);
    const auto group = target.submit(request(prompt(2, 20), 10, 2));
    std::vector<submitted> singles;
    for (uint32_t seed = 0; seed < 4; ++seed) {
        singles.push_back(target.submit(request(prompt(seed, 30), 5)));
    }
    // The second slot is free: as many pass as there are slots.
    CHECK_EQ(answer(singles[0]), plain_loop(prompt(0, 30), 5, 1024));
    CHECK_EQ(answer(singles[1]), plain_loop(prompt(1, 30), 5, 1024));
    let_admit(target);
    CHECK(accepted(group) && accepted(singles[2]) && accepted(singles[3]));
    target.cancel(running.control);
    check_all_equal(group, 2, plain_loop(prompt(2, 20), 10, 1024));
    CHECK_EQ(answer(singles[2]), plain_loop(prompt(2, 30), 5, 1024));
    CHECK_EQ(answer(singles[3]), plain_loop(prompt(3, 30), 5, 1024));
}

TEST(more_choices_than_slots_are_refused) {
    engine target(demo_model(), engine_params(2, 1024, true));
    std::string field;
    try {
        target.submit(request(prompt(1, 20), 5, 3));
    } catch (const error & reason) {
        CHECK(reason.kind == error_kind::invalid_request);
        field = reason.param;
    }
    CHECK_EQ(field, "n");
}

TEST(a_queue_of_no_length_takes_a_group_only_into_idle_slots) {
    auto params = engine_params(2, 1024, true);
    params.max_queue = 0;
    engine target(demo_model(), params);
    const auto single = target.submit(request(prompt(1, 20), 100000));
    wait_for_bytes(single, 1);
    bool busy = false;
    try {
        target.submit(request(prompt(2, 20), 5, 2));
    } catch (const error & reason) {
        busy = reason.kind == error_kind::busy;
    }
    CHECK(busy);
    target.cancel(single.control);
    answer(single);
    wait_until_idle(target);
    check_all_equal(target.submit(request(prompt(2, 20), 5, 2)), 2, plain_loop(prompt(2, 20), 5, 1024));
}

TEST(a_choice_that_fails_leaves_the_others_alone) {
    auto params = engine_params(3, 3072, true);
    params.common.n_ubatch = 1;  // so that a batch is of one choice
    engine target(demo_model(), params, failing_at(26, decode_status::failed));
    const auto handle = target.submit(request(prompt(1, 20), n_predict, 3));
    int n_failed = 0;
    for (const std::string & text : answers(handle, 3)) {
        if (text.find("failed") != std::string::npos) {
            ++n_failed;
        } else {
            CHECK_EQ(text, plain_loop(prompt(1, 20), n_predict, 1024));
        }
    }
    CHECK_EQ(n_failed, 1);
    CHECK(!handle.session->failure().has_value());
    CHECK_EQ(target.metrics().n_finished.load(), 1u);
    wait_until_idle(target);
}

TEST(a_prefill_that_fails_ends_all_choices) {
    engine target(demo_model(), engine_params(3, 1024, true), failing_at(2, decode_status::failed));
    const auto handle = target.submit(request(prompt(1, 300), n_predict, 3));
    answer(handle);
    CHECK(handle.session->failure().has_value());
    wait_until_idle(target);
    CHECK_EQ(target.metrics().n_failed.load(), 1u);
    check_all_equal(target.submit(request(prompt(1, 300), n_predict, 3)), 3,
                    plain_loop(prompt(1, 300), n_predict, 1024));
}

TEST(shutdown_ends_a_request_with_one_error) {
    engine target(demo_model(), engine_params(2, 1024, true));
    const auto running = target.submit(request(prompt(1, 20), 100000, 2));
    wait_for_bytes(running, 1);
    const auto queued = target.submit(request(prompt(2, 20), 5, 2));
    target.shutdown("going down");
    CHECK(answer(running).find("error: going down") != std::string::npos);
    answer(queued);
    CHECK_EQ(running.session->failure()->what(), std::string("going down"));
    CHECK_EQ(queued.session->failure()->what(), std::string("going down"));
    target.close();
    CHECK_EQ(target.metrics().n_failed.load(), 2u);
}

TEST(random_orders_leak_no_slot) {
    random_source random(11);
    for (const bool unified : {true, false}) {
        engine target(demo_model(), engine_params(4, 1024, unified));
        std::vector<submitted> handles;
        for (int i = 0; i < 80; ++i) {
            const int n_choices = 1 + static_cast<int>(random.below(4));
            const auto n_tokens = 1 + random.below(120);
            handles.push_back(target.submit(
                request(prompt(random.below(4), n_tokens), static_cast<int>(random.below(30)), n_choices)));
            if (random.one_in(3)) {
                target.cancel(handles[random.below(static_cast<uint32_t>(handles.size()))].control);
            }
            if (random.one_in(5)) {
                answer(handles[random.below(static_cast<uint32_t>(handles.size()))]);
            }
        }
        for (const auto & handle : handles) {
            answer(handle);
            CHECK(!handle.session->failure().has_value());
        }
        wait_until_idle(target);
        CHECK_EQ(target.metrics().n_finished.load() + target.metrics().n_cancelled.load(), 80u);
        CHECK_EQ(target.metrics().n_running.load(), 0);
        CHECK_EQ(target.metrics().n_queued.load(), 0);
        // All slots are to be had.
        check_all_equal(target.submit(request(prompt(1, 30), 5, 4)), 4, plain_loop(prompt(1, 30), 5, 1024));
    }
}
