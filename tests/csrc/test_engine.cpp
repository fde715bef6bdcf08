// The slot loop on the bundled model: a request's tokens are the same alone, among others, after reuse of a
// prefix, after a neighbour's cancellation and after being parked, and equal a plain llama_decode loop.
#include "engine.h"

#include <sstream>
#include <string>
#include <vector>

#include "check.h"
#include "engine_fixture.h"
#include "gated_decoder.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

constexpr int n_predict = 40;

std::string alone(const std::vector<llama_token> & tokens) {
    engine target(demo_model(), engine_params(1, 1024, true));
    return answer(target.submit(request(tokens, n_predict)));
}

void check_equal_among_others(bool unified) {
    engine target(demo_model(), engine_params(4, 4096, unified));
    std::vector<submitted> handles;
    for (uint32_t seed = 0; seed < 17; ++seed) {
        handles.push_back(target.submit(request(prompt(seed, 5 + seed * 17), n_predict)));
    }
    for (uint32_t seed = 0; seed < 17; ++seed) {
        CHECK_EQ(answer(handles[seed]), plain_loop(prompt(seed, 5 + seed * 17), n_predict, 1024));
    }
}

}  // namespace

TEST(one_request_equals_a_plain_loop) {
    CHECK_EQ(alone(prompt(1, 300)), plain_loop(prompt(1, 300), n_predict, 1024));
}

TEST(seventeen_requests_on_four_slots_of_a_unified_cache) {
    check_equal_among_others(true);
}

TEST(seventeen_requests_on_four_slots_in_streams) {
    check_equal_among_others(false);
}

TEST(a_prefix_hit_changes_nothing) {
    engine target(demo_model(), engine_params(2, 2048, true));
    auto tokens = prompt(5, 200);
    answer(target.submit(request(tokens, 10)));
    const auto tail = prompt(6, 30);
    tokens.insert(tokens.end(), tail.begin(), tail.end());
    CHECK_EQ(answer(target.submit(request(tokens, n_predict))), plain_loop(tokens, n_predict, 1024));
    CHECK_EQ(target.metrics().n_cached_tokens.load(), 200u);
    // The whole prompt is cached now: its last token is decoded again, for its logits.
    CHECK_EQ(answer(target.submit(request(tokens, n_predict))), plain_loop(tokens, n_predict, 1024));
    CHECK_EQ(target.metrics().n_cached_tokens.load(), 200u + 229u);
}

TEST(progress_and_timings_are_told_when_asked) {
    engine target(demo_model(), engine_params(1, 1024, true));
    auto asked = request(prompt(1, 300), n_predict);
    asked.params.return_progress = true;
    asked.params.timings_per_token = true;
    std::istringstream words(answer(target.submit(std::move(asked))));
    int n_processed = 0;
    int n_decoded = 0;
    std::string progress;  // the last one told
    std::string tokens;
    for (std::string word; words >> word;) {
        if (word.find('/') != std::string::npos) {
            CHECK(tokens.empty() && std::stoi(word) >= n_processed);
            n_processed = std::stoi(word);
            progress = word;
        } else if (word.front() == '@') {
            CHECK_EQ(word, "@" + std::to_string(++n_decoded));
        } else {
            tokens += (tokens.empty() ? "" : " ") + word;
        }
    }
    CHECK_EQ(progress, "300/300");
    CHECK_EQ(n_decoded, n_predict);
    CHECK_EQ(tokens, plain_loop(prompt(1, 300), n_predict, 1024));
}

TEST(a_neighbour_s_cancellation_changes_nothing) {
    engine target(demo_model(), engine_params(2, 2048, true));
    const auto neighbour = target.submit(request(prompt(7, 50), 100000));
    const auto handle = target.submit(request(prompt(8, 50), n_predict));
    wait_for_bytes(neighbour, 20);
    target.cancel(neighbour.control);
    CHECK_EQ(answer(handle), plain_loop(prompt(8, 50), n_predict, 1024));
    const std::string cut = answer(neighbour);
    CHECK_EQ(cut.substr(cut.size() - 9), "cancelled");
    CHECK_EQ(target.metrics().n_cancelled.load(), 1u);
}

TEST(a_queued_request_can_be_cancelled) {
    engine target(demo_model(), engine_params(1, 1024, true));
    const auto first = target.submit(request(prompt(1, 20), 100000));
    wait_for_bytes(first, 1);
    const auto second = target.submit(request(prompt(2, 20), 10));
    CHECK(second.session->state() == session_state::accepted);
    target.cancel(second.control);
    CHECK_EQ(answer(second), "cancelled");
    target.cancel(first.control);
    answer(first);
    wait_until_idle(target);
}

TEST(a_full_context_ends_with_length) {
    engine target(demo_model(), engine_params(1, 256, true));
    const std::string text = answer(target.submit(request(prompt(1, 250), -1)));
    CHECK_EQ(text.substr(text.size() - 6), "length");
    CHECK_EQ(std::count(text.begin(), text.end(), ' '), 6);
}

TEST(a_full_unified_cache_parks_and_loses_nothing) {
    engine target(demo_model(), engine_params(4, 512, true));
    // Where no token's margin is so small that the shape of a batch decides: 0.3 and more.
    const std::vector<uint32_t> seeds = {0, 8, 9, 14, 15, 22};
    std::vector<submitted> handles;
    for (const uint32_t seed : seeds) {
        handles.push_back(target.submit(request(prompt(seed, 90), 150)));
    }
    for (size_t i = 0; i < seeds.size(); ++i) {
        CHECK_EQ(answer(handles[i]), plain_loop(prompt(seeds[i], 90), 150, 1024));
    }
    CHECK(target.metrics().n_parked.load() > 0);
    wait_until_idle(target);
}

TEST(a_full_queue_is_busy) {
    auto params = engine_params(1, 1024, true);
    params.max_queue = 2;
    engine target(demo_model(), params);
    const auto running = target.submit(request(prompt(1, 20), 100000));
    wait_for_bytes(running, 1);
    const auto second = target.submit(request(prompt(2, 20), 5));
    const auto third = target.submit(request(prompt(3, 20), 5));
    bool busy = false;
    try {
        target.submit(request(prompt(4, 20), 5));
    } catch (const error & reason) {
        busy = reason.kind == error_kind::busy;
    }
    CHECK(busy);
    target.cancel(running.control);
    CHECK_EQ(answer(second), plain_loop(prompt(2, 20), 5, 1024));
    CHECK_EQ(answer(third), plain_loop(prompt(3, 20), 5, 1024));
}

TEST(a_failing_decode_fails_its_requests_and_the_engine_goes_on) {
    engine target(demo_model(), engine_params(2, 1024, true), failing_at(5, decode_status::failed));
    const auto first = target.submit(request(prompt(1, 20), n_predict));
    const std::string text = answer(first);
    CHECK(first.session->failure().has_value());
    CHECK(text.find("error: ") != std::string::npos);
    CHECK_EQ(answer(target.submit(request(prompt(1, 20), n_predict))), plain_loop(prompt(1, 20), n_predict, 1024));
    wait_until_idle(target);
}

TEST(a_lone_request_without_room_fails_and_the_engine_goes_on) {
    engine target(demo_model(), engine_params(2, 1024, true), failing_at(3, decode_status::no_room));
    const std::string text = answer(target.submit(request(prompt(1, 20), n_predict)));
    CHECK(text.find("no room for the request: it needs 22 cells, and there are 1024") != std::string::npos);
    CHECK_EQ(answer(target.submit(request(prompt(2, 20), n_predict))), plain_loop(prompt(2, 20), n_predict, 1024));
}

TEST(shutdown_ends_every_session_with_an_error) {
    engine target(demo_model(), engine_params(1, 1024, true));
    const auto running = target.submit(request(prompt(1, 20), 100000));
    wait_for_bytes(running, 1);
    const auto queued = target.submit(request(prompt(2, 20), 5));
    target.shutdown("going down");
    CHECK(answer(running).find("error: going down") != std::string::npos);
    answer(queued);
    CHECK_EQ(queued.session->failure()->what(), std::string("going down"));
    bool refused = false;
    try {
        target.submit(request(prompt(3, 20), 5));
    } catch (const error & reason) {
        refused = reason.kind == error_kind::unavailable;
    }
    CHECK(refused);
    target.close();
    target.close();
}

TEST(random_orders_leak_no_slot_and_no_session) {
    random_source random(9);
    engine target(demo_model(), engine_params(3, 1024, true));
    std::vector<submitted> handles;
    for (int i = 0; i < 120; ++i) {
        const auto n_tokens = 1 + random.below(120);
        handles.push_back(
            target.submit(request(prompt(random.below(4), n_tokens), static_cast<int>(random.below(30)))));
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
    const auto & metrics = target.metrics();
    CHECK_EQ(metrics.n_requests.load(), 120u);
    CHECK_EQ(metrics.n_finished.load() + metrics.n_cancelled.load(), 120u);
    CHECK_EQ(metrics.n_running.load(), 0);
    for (const auto & info : target.slots()) {
        CHECK(!info.busy);
    }
}

TEST(two_engines_share_a_model_and_nothing_else) {
    engine one(demo_model(), engine_params(1, 1024, true));
    engine two(demo_model(), engine_params(2, 1024, false));
    const auto first = one.submit(request(prompt(1, 60), n_predict));
    const auto second = two.submit(request(prompt(1, 60), n_predict));
    const std::string expected = plain_loop(prompt(1, 60), n_predict, 1024);
    CHECK_EQ(answer(first), expected);
    one.close();
    CHECK_EQ(answer(second), expected);
}
