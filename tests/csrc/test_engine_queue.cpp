// The queue in an engine: who goes first, who is told what, and what a full one says.
#include "check.h"
#include "engine_facade.h"
#include "engine_fixture.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

submitted ask(engine & target, uint32_t seed, std::optional<int32_t> wanted, std::optional<int32_t> of_key = {}) {
    prepared_request prepared = request(prompt(seed, 20), 5);
    prepared.priority = wanted;
    return submit(target, prepared, "", of_key);
}

// Both are answered at the top of a step: behind the second, the engine has looked at what came before the first.
void let_a_step_pass(engine & target) {
    target.slots();
    target.slots();
}

}  // namespace

TEST(the_queue_is_in_order_of_priority_and_tells_it) {
    engine target(demo_model(), engine_params(1, 1024, true));
    const auto running = target.submit(request(prompt(1, 20), 100000));
    wait_for_bytes(running, 1);
    CHECK_EQ(queue_position(running), -1);
    const auto plain = ask(target, 2, {});
    CHECK_EQ(queue_position(plain), 0);
    const auto high = ask(target, 3, 5);
    const auto low = ask(target, 4, -5);
    const auto late = ask(target, 5, 0);
    let_a_step_pass(target);
    CHECK_EQ(queue_position(high), 0);
    CHECK_EQ(queue_position(plain), 1);
    CHECK_EQ(queue_position(late), 2);
    CHECK_EQ(queue_position(low), 3);
    target.cancel(high.control);
    CHECK_EQ(answer(high), "cancelled");
    CHECK_EQ(queue_position(high), -1);
    let_a_step_pass(target);
    CHECK_EQ(queue_position(plain), 0);
    target.cancel(running.control);
    for (const auto * handle : {&plain, &late, &low}) {
        answer(*handle);
        CHECK_EQ(queue_position(*handle), -1);
    }
}

TEST(a_key_s_requests_have_its_priority_and_no_more) {
    engine target(demo_model(), engine_params(1, 1024, true));
    const auto running = target.submit(request(prompt(1, 20), 100000));
    wait_for_bytes(running, 1);
    const auto greedy = ask(target, 2, 10, 0);    // asks for what its key does not have
    const auto modest = ask(target, 3, -10, 5);   // asks for less than its key has
    const auto favoured = ask(target, 4, {}, 1);  // asks for nothing
    const auto background = ask(target, 5, 9, -3);
    let_a_step_pass(target);
    CHECK_EQ(queue_position(favoured), 0);
    CHECK_EQ(queue_position(greedy), 1);
    CHECK_EQ(queue_position(background), 2);
    CHECK_EQ(queue_position(modest), 3);
    target.cancel(running.control);
    for (const auto * handle : {&greedy, &modest, &favoured, &background}) {
        answer(*handle);
    }
}

TEST(a_request_with_several_prompts_is_told_the_first_one_s_place) {
    engine target(demo_model(), engine_params(1, 1024, true));
    const auto running = target.submit(request(prompt(1, 20), 100000));
    wait_for_bytes(running, 1);
    const auto before = ask(target, 2, {});
    prepared_request several = request(prompt(3, 20), 5, 1);
    several.writer = std::make_unique<token_writer>(3);
    several.more_prompts = {{prompt(4, 20)}, {prompt(5, 20)}};
    const auto handle = target.submit(std::move(several));
    const auto behind = ask(target, 6, {});
    let_a_step_pass(target);
    CHECK_EQ(queue_position(handle), 1);
    CHECK_EQ(queue_position(behind), 4);
    target.cancel(running.control);
    answer(behind);
    CHECK_EQ(queue_position(handle), -1);
}

TEST(a_full_queue_says_when_to_come_back) {
    auto params = engine_params(1, 1024, true);
    params.max_queue = 1;
    engine target(demo_model(), params);
    answer(target.submit(request(prompt(1, 20), 5)));
    wait_until_idle(target);
    CHECK(target.service().seconds() > 0);
    const auto running = target.submit(request(prompt(1, 20), 100000));
    wait_for_bytes(running, 1);
    const auto queued = ask(target, 2, {});
    int64_t retry_after = 0;
    try {
        ask(target, 3, 10);  // no priority makes room
    } catch (const error & reason) {
        CHECK(reason.kind == error_kind::busy);
        retry_after = reason.retry_after;
    }
    CHECK_EQ(retry_after, target.service().until_served(2, 1));
    target.cancel(running.control);
    answer(queued);
}
