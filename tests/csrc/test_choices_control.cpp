// Controls of single choices, above all while they share a prefill: the others never notice.
#include <string>
#include <vector>

#include "check.h"
#include "engine_fixture.h"
#include "gated_decoder.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

constexpr int n_predict = 40;
constexpr size_t n_prompt = 300;  // three ubatches

// An engine that stands still at the n-th decode until the gate opens, with one request for three choices.
struct stopped_engine {
    explicit stopped_engine(int call, bool unified = true)
        : gate(std::make_shared<decode_gate>(call)),
          target(demo_model(), engine_params(4, 4096, unified), gated(gate)) {
        group = target.submit(controlled(prompt(1, n_prompt), n_predict, 3));
        gate->wait_until_reached();
    }

    std::shared_ptr<control_ticket> post(size_t choice, control_action action) {
        return pyllama_test::post(target, *group.choices[choice], {action});
    }

    control_result control(size_t choice, control_action action) { return wait_for(post(choice, action)); }

    uint64_t n_prompt_decoded() { return target.metrics().n_prompt_tokens.load(); }

    std::shared_ptr<decode_gate> gate;
    engine target;
    submitted group;
};

std::string expected() {
    return plain_loop(prompt(1, n_prompt), n_predict, 1024);
}

}  // namespace

TEST(each_choice_has_a_mailbox) {
    stopped_engine running(1);
    CHECK_EQ(running.group.choices.size(), 3u);
    running.gate->open();
    answer(running.group);
}

TEST(a_stopped_choice_leaves_the_others_alone) {
    stopped_engine running(12);
    const auto ticket = running.post(1, control_action::stop);
    running.gate->open();
    CHECK(wait_for(ticket).applied);
    const auto texts = answers(running.group, 3);
    CHECK_EQ(texts[0], expected());
    CHECK_EQ(texts[2], expected());
    CHECK_EQ(texts[1].substr(texts[1].size() - 4), "stop");
    CHECK_EQ(texts[1].substr(0, texts[1].size() - 4), expected().substr(0, texts[1].size() - 4));
    CHECK_EQ(running.target.metrics().n_finished.load(), 1u);
}

TEST(a_stop_in_the_shared_prefill_takes_one_choice_out) {
    for (const size_t stopped : {size_t{0}, size_t{1}, size_t{2}}) {
        for (const bool unified : {true, false}) {
            stopped_engine running(2, unified);
            const auto ticket = running.post(stopped, control_action::stop);
            running.gate->open();
            const control_result result = wait_for(ticket);
            CHECK(result.applied && result.state == request_state::finished);
            const auto texts = answers(running.group, 3);
            for (size_t choice = 0; choice < 3; ++choice) {
                CHECK_EQ(texts[choice], choice == stopped ? "stop" : expected());
            }
            CHECK_EQ(running.n_prompt_decoded(), n_prompt);
            wait_until_idle(running.target);
            CHECK_EQ(running.target.metrics().n_finished.load(), 1u);
            // Every slot is to be had again.
            for (const std::string & text : answers(running.target.submit(request(prompt(2, 30), 5, 4)), 4)) {
                CHECK_EQ(text, plain_loop(prompt(2, 30), 5, 1024));
            }
        }
    }
}

TEST(stopping_all_in_the_shared_prefill_ends_the_request) {
    stopped_engine running(2);
    for (size_t choice = 0; choice < 3; ++choice) {
        running.post(choice, control_action::stop);
    }
    running.gate->open();
    for (const std::string & text : answers(running.group, 3)) {
        CHECK_EQ(text, "stop");
    }
    wait_until_idle(running.target);
}

TEST(a_paused_choice_waits_while_the_prompt_goes_on) {
    for (const size_t paused : {size_t{0}, size_t{1}}) {
        for (const bool unified : {true, false}) {
            stopped_engine running(2, unified);
            const auto ticket = running.post(paused, control_action::pause);
            running.gate->open();
            CHECK(wait_for(ticket).state == request_state::prefill);
            // Until the others have ended.
            while (running.target.metrics().n_running.load() > 1) {
                running.target.slots();
            }
            CHECK_EQ(running.n_prompt_decoded(), n_prompt);
            CHECK(running.control(paused, control_action::resume).success);
            for (const std::string & text : answers(running.group, 3)) {
                CHECK_EQ(text, expected());
            }
            CHECK_EQ(running.n_prompt_decoded(), n_prompt + 1);
        }
    }
}

TEST(all_choices_paused_in_the_prefill_rest_together) {
    stopped_engine running(2);
    std::vector<std::shared_ptr<control_ticket>> tickets;
    for (size_t choice = 0; choice < 3; ++choice) {
        tickets.push_back(running.post(choice, control_action::pause));
    }
    running.gate->open();
    for (const auto & ticket : tickets) {
        CHECK(wait_for(ticket).success);
    }
    running.target.slots();
    running.target.slots();
    CHECK(running.n_prompt_decoded() < n_prompt);
    for (size_t choice = 0; choice < 3; ++choice) {
        CHECK(running.control(choice, control_action::resume).success);
    }
    for (const std::string & text : answers(running.group, 3)) {
        CHECK_EQ(text, expected());
    }
    CHECK(running.n_prompt_decoded() <= n_prompt + 2);
}

TEST(a_choice_of_a_queued_request_can_be_stopped) {
    stopped_engine running(2);
    const auto queued = running.target.submit(controlled(prompt(2, 40), 10, 2));
    const auto ticket = post(running.target, *queued.choices[0], {control_action::stop});
    running.gate->open();
    CHECK(wait_for(ticket).success);
    const auto texts = answers(queued, 2);
    CHECK_EQ(texts[0], "stop");
    CHECK_EQ(texts[1], plain_loop(prompt(2, 40), 10, 1024));
    answer(running.group);
    wait_until_idle(running.target);
    CHECK_EQ(running.target.metrics().n_queued.load(), 0);
}
