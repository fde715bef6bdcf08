// Controls of running, queued and paused requests: what is answered is what happened, and nobody's tokens change.
#include "control.h"

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "check.h"
#include "control_json.h"
#include "engine_fixture.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

constexpr int n_predict = 40;

prepared_request owned(const std::vector<llama_token> & tokens, int n, std::string owner) {
    prepared_request made = controlled(tokens, n);
    made.owner = std::move(owner);
    return made;
}

std::shared_ptr<control_ticket> post(engine & target, const submitted & handle, control_action action) {
    return pyllama_test::post(target, *handle.control, {action});
}

control_result control(engine & target, const submitted & handle, control_action action) {
    return wait_for(post(target, handle, action));
}

std::string note(const char * action, int32_t position) {
    return std::string("<") + action + " " + std::to_string(position) + "> ";
}

bool contains(const std::string & text, const std::string & part) {
    return text.find(part) != std::string::npos;
}

int64_t n_words(const std::string & text) {
    return std::count(text.begin(), text.end(), ' ');
}

std::string alone(const std::vector<llama_token> & tokens, int n) {
    engine target(demo_model(), engine_params(1, 8192, true));
    return answer(target.submit(request(tokens, n)));
}

// Posts while a step runs, and lets that step end.
control_result control_in_step(step_gate & gate, engine & target, const submitted & handle, control_action action) {
    const auto ticket = post(target, handle, action);
    gate.open();
    return wait_for(ticket);
}

// Pauses one request among others, and lets it go on later: everybody's tokens are those of a plain loop.
void check_pause_among_others(bool unified) {
    step_gate gate;
    engine target(demo_model(), engine_params(3, 3072, unified), gate.decoder());
    const auto paused = target.submit(controlled(prompt(1, 60), n_predict));
    const auto second = target.submit(request(prompt(2, 200), n_predict));
    const auto third = target.submit(request(prompt(3, 90), n_predict));
    gate.run(15);
    const control_result stopped = control_in_step(gate, target, paused, control_action::pause);
    CHECK(stopped.success && stopped.applied && stopped.paused);
    // The others decode meanwhile, and it does not.
    CHECK_EQ(answer(second), plain_loop(prompt(2, 200), n_predict, 1024));
    CHECK_EQ(answer(third), plain_loop(prompt(3, 90), n_predict, 1024));
    const auto fourth = target.submit(request(prompt(4, 70), n_predict));
    const control_result started = control(target, paused, control_action::resume);
    CHECK(started.success && !started.paused);
    CHECK_EQ(started.position, stopped.position);
    CHECK_EQ(without_notes(answer(paused)), plain_loop(prompt(1, 60), n_predict, 1024));
    CHECK_EQ(answer(fourth), plain_loop(prompt(4, 70), n_predict, 1024));
    CHECK_EQ(target.metrics().n_parked.load(), 0u);
}

}  // namespace

TEST(a_pause_holds_the_tokens_and_a_resume_continues_them) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto handle = target.submit(controlled(prompt(1, 50), n_predict));
    gate.run(20);  // the 20th gives the 20th token
    const control_result paused = control_in_step(gate, target, handle, control_action::pause);
    CHECK(paused.success && paused.applied && paused.paused);
    CHECK(paused.state == request_state::content || paused.state == request_state::reasoning);
    CHECK_EQ(paused.position, 21);
    CHECK_EQ(target.slots().front().state, "paused");
    CHECK_EQ(target.slots().front().n_decoded, paused.position);
    const control_result again = control(target, handle, control_action::pause);
    CHECK(!again.success && !again.applied && again.paused);
    CHECK_EQ(again.message, "the completion is paused already");
    // Nothing was decoded in between.
    const control_result resumed = control(target, handle, control_action::resume);
    CHECK(resumed.success && resumed.applied && !resumed.paused);
    CHECK_EQ(resumed.position, paused.position);
    const std::string text = answer(handle);
    CHECK_EQ(without_notes(text), plain_loop(prompt(1, 50), n_predict, 1024));
    CHECK_EQ(n_words(text.substr(0, text.find(note("pause", 21) + note("resume", 21)))), 21);
    CHECK_EQ(target.metrics().n_controls[static_cast<size_t>(control_action::pause)].load(), 1u);
    CHECK_EQ(target.metrics().n_controls_refused.load(), 1u);
}

TEST(a_running_request_cannot_be_resumed) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto handle = target.submit(controlled(prompt(1, 50), 30));
    gate.run(10);
    const control_result running = control_in_step(gate, target, handle, control_action::resume);
    CHECK(!running.success && !running.applied && !running.paused);
    CHECK_EQ(running.message, "the completion is not paused");
    CHECK_EQ(answer(handle), plain_loop(prompt(1, 50), 30, 1024));
}

TEST(a_pause_among_others_on_a_unified_cache) {
    check_pause_among_others(true);
}

TEST(a_pause_among_others_in_streams) {
    check_pause_among_others(false);
}

TEST(a_pause_in_the_prefill) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 8192, true), gate.decoder());
    const auto tokens = prompt(4, 2000);
    const auto handle = target.submit(controlled(tokens, 5));
    gate.run(3);
    const control_result paused = control_in_step(gate, target, handle, control_action::pause);
    CHECK(paused.state == request_state::prefill && paused.paused);
    CHECK_EQ(paused.position, 0);
    CHECK_EQ(gate.n_begun(), 4);
    CHECK_EQ(target.slots().front().n_cached, 4 * 128);
    CHECK(control(target, handle, control_action::resume).state == request_state::prefill);
    CHECK_EQ(answer(handle), note("pause", 0) + note("resume", 0) + alone(tokens, 5));
}

TEST(a_stop_keeps_what_there_is) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto handle = target.submit(controlled(prompt(1, 50), 900));
    gate.run(20);
    const control_result stopped = control_in_step(gate, target, handle, control_action::stop);
    CHECK(stopped.success && stopped.applied && stopped.state == request_state::finished);
    CHECK_EQ(stopped.position, 21);
    const std::string twenty_one = plain_loop(prompt(1, 50), 21, 1024);
    CHECK_EQ(answer(handle), twenty_one.substr(0, twenty_one.size() - 6) + note("stop", 21) + "stop");
    const control_result late = control(target, handle, control_action::stop);
    CHECK(!late.success && late.state == request_state::finished);
    CHECK_EQ(control_answer({late}, false), R"({"success":false,"message":"no active completion for this id"})");
    CHECK_EQ(target.metrics().n_finished.load(), 1u);
}

TEST(a_stop_gives_out_what_a_stop_string_held_back) {
    // The answer's sixth token could begin a stop string, and the seventh would not complete it.
    const auto tokens = prompt(1, 50);
    std::istringstream words(plain_loop(tokens, 6, 1024));
    llama_token sixth = 0;
    for (int i = 0; i < 6; ++i) {
        words >> sixth;
    }
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    auto asked = controlled(tokens, 900);
    asked.params.stop = {demo_model()->piece(sixth, false) + "never said"};
    const auto handle = target.submit(std::move(asked));
    gate.run(5);
    const control_result stopped = control_in_step(gate, target, handle, control_action::stop);
    CHECK_EQ(stopped.position, 6);
    const std::string six = plain_loop(tokens, 6, 1024);
    CHECK_EQ(answer(handle), six.substr(0, six.size() - 6) + note("stop", 6) + "stop");
}

TEST(a_paused_request_can_be_stopped_cancelled_and_shut_down) {
    engine target(demo_model(), engine_params(4, 1 << 16, true));
    std::vector<submitted> handles;
    for (uint32_t seed = 0; seed < 3; ++seed) {
        handles.push_back(target.submit(controlled(prompt(seed, 50), 100000)));
        wait_for_bytes(handles.back(), 10);
        CHECK(control(target, handles.back(), control_action::pause).success);
    }
    CHECK(control(target, handles[0], control_action::stop).success);
    CHECK(contains(answer(handles[0]), "> stop"));
    target.cancel(handles[1].control);
    CHECK(contains(answer(handles[1]), "cancelled"));
    target.shutdown("going down");
    CHECK(contains(answer(handles[2]), "error: going down"));
    CHECK(!control(target, handles[2], control_action::resume).success);
}

TEST(queued_requests_are_found) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto first = target.submit(controlled(prompt(1, 20), 900));
    gate.run(1);
    const auto paused = target.submit(controlled(prompt(2, 20), n_predict));
    const auto stopped = target.submit(controlled(prompt(3, 20), n_predict));
    const auto last = target.submit(request(prompt(4, 20), n_predict));
    const auto pausing = post(target, paused, control_action::pause);
    const auto stopping = post(target, stopped, control_action::stop);
    const control_result ended = control_in_step(gate, target, first, control_action::stop);
    CHECK(ended.success);
    const control_result pause = wait_for(pausing);
    CHECK(pause.success && pause.applied && pause.paused && pause.state == request_state::queued);
    CHECK_EQ(pause.position, 0);
    CHECK(wait_for(stopping).state == request_state::finished);
    CHECK_EQ(answer(stopped), "<stop 0> stop");
    CHECK(paused.session->state() == session_state::accepted);
    // The one behind the paused one goes ahead.
    CHECK_EQ(answer(last), plain_loop(prompt(4, 20), n_predict, 1024));
    CHECK(control(target, paused, control_action::resume).state == request_state::queued);
    CHECK_EQ(answer(paused), "<pause 0> <resume 0> " + plain_loop(prompt(2, 20), n_predict, 1024));
}

TEST(a_paused_request_gives_its_cells_to_others_on_a_full_cache) {
    step_gate gate;
    engine target(demo_model(), engine_params(3, 512, true), gate.decoder());
    const auto paused = target.submit(controlled(prompt(1, 100), n_predict));
    gate.run(20);
    CHECK(control_in_step(gate, target, paused, control_action::pause).success);
    // One that fits at first and grows, and one whose prompt would not fit beside it.
    CHECK_EQ(answer(target.submit(request(prompt(2, 370), n_predict))), plain_loop(prompt(2, 370), n_predict, 1024));
    CHECK_EQ(target.metrics().n_parked.load(), 1u);
    CHECK_EQ(answer(target.submit(request(prompt(3, 450), 20))), plain_loop(prompt(3, 450), 20, 1024));
    CHECK(control(target, paused, control_action::resume).state == request_state::queued);
    CHECK_EQ(without_notes(answer(paused)), plain_loop(prompt(1, 100), n_predict, 1024));
}

TEST(a_prompt_that_needs_a_paused_request_s_cells_gets_them) {
    step_gate gate;
    engine target(demo_model(), engine_params(3, 512, true), gate.decoder());
    const auto paused = target.submit(controlled(prompt(1, 100), n_predict));
    gate.run(20);
    CHECK(control_in_step(gate, target, paused, control_action::pause).success);
    CHECK_EQ(answer(target.submit(request(prompt(3, 450), 20))), plain_loop(prompt(3, 450), 20, 1024));
    CHECK_EQ(target.metrics().n_parked.load(), 1u);
    CHECK(control(target, paused, control_action::resume).success);
    CHECK_EQ(without_notes(answer(paused)), plain_loop(prompt(1, 100), n_predict, 1024));
}

// Pauses the first of two requests in one slot, lets the second one have it, and resumes the first.
void check_slot_of_a_paused_request(bool unified, int32_t id_slot) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, unified), gate.decoder());
    const auto paused = target.submit(controlled(prompt(1, 100), n_predict));
    gate.run(20);
    CHECK(control_in_step(gate, target, paused, control_action::pause).success);
    CHECK_EQ(target.metrics().n_parked.load(), 0u);
    auto other = request(prompt(2, 60), n_predict);
    other.params.id_slot = id_slot;
    CHECK_EQ(answer(target.submit(std::move(other))), plain_loop(prompt(2, 60), n_predict, 1024));
    CHECK_EQ(target.metrics().n_parked.load(), 1u);
    CHECK(control(target, paused, control_action::resume).state == request_state::queued);
    CHECK_EQ(without_notes(answer(paused)), plain_loop(prompt(1, 100), n_predict, 1024));
}

TEST(a_request_that_needs_a_paused_request_s_slot_gets_it) {
    for (const bool unified : {true, false}) {
        check_slot_of_a_paused_request(unified, -1);
        check_slot_of_a_paused_request(unified, 0);
    }
}

TEST(paused_requests_keep_their_slots_where_they_would_not_be_enough) {
    step_gate gate;
    engine target(demo_model(), engine_params(3, 3072, true), gate.decoder());
    const auto paused = target.submit(controlled(prompt(1, 60), n_predict));
    const auto running = target.submit(request(prompt(2, 60), n_predict));
    gate.run(20);
    const auto pausing = post(target, paused, control_action::pause);
    gate.run(1);
    CHECK(wait_for(pausing).success);
    // It needs all three slots, and one of them is busy.
    const auto choices = target.submit(request(prompt(3, 60), n_predict, 3));
    gate.run(5);
    CHECK_EQ(target.metrics().n_parked.load(), 0u);
    gate.open();
    CHECK_EQ(answer(running), plain_loop(prompt(2, 60), n_predict, 1024));
    for (const std::string & each : answers(choices, 3)) {
        CHECK_EQ(each, plain_loop(prompt(3, 60), n_predict, 1024));
    }
    CHECK_EQ(target.metrics().n_parked.load(), 1u);
    CHECK(control(target, paused, control_action::resume).success);
    CHECK_EQ(without_notes(answer(paused)), plain_loop(prompt(1, 60), n_predict, 1024));
}

TEST(a_pause_ends_at_its_time_limit) {
    auto params = engine_params(1, 1024, true);
    params.pause_timeout = 0.05;
    step_gate gate;
    engine target(demo_model(), params, gate.decoder());
    const auto handle = target.submit(controlled(prompt(1, 50), n_predict));
    gate.run(20);
    CHECK(control_in_step(gate, target, handle, control_action::pause).success);
    const std::string text = answer(handle);
    CHECK(contains(text, note("pause", 21) + note("resume", 21)));
    CHECK_EQ(without_notes(text), plain_loop(prompt(1, 50), n_predict, 1024));
}

TEST(an_owner_may_pause_so_many) {
    auto params = engine_params(4, 1 << 16, true);
    params.max_paused = 1;
    engine target(demo_model(), params);
    const auto first = target.submit(owned(prompt(1, 20), 100000, "a"));
    const auto second = target.submit(owned(prompt(2, 20), 100000, "a"));
    const auto other = target.submit(owned(prompt(3, 20), 100000, "b"));
    CHECK(control(target, first, control_action::pause).success);
    const control_result refused = control(target, second, control_action::pause);
    CHECK(!refused.success && !refused.paused);
    CHECK_EQ(refused.message, "too many completions are paused: at most 1 at a time (--max-paused)");
    CHECK(control(target, other, control_action::pause).success);
    CHECK(control(target, first, control_action::resume).success);
    CHECK(control(target, second, control_action::pause).success);
}

TEST(without_opting_in_nothing_is_controlled) {
    engine target(demo_model(), engine_params(1, 1024, true));
    const auto handle = target.submit(request(prompt(1, 50), n_predict));
    for (const auto action : {control_action::pause, control_action::resume, control_action::stop}) {
        const control_result refused = control(target, handle, action);
        CHECK(!refused.success);
        CHECK_EQ(control_answer({refused}, false),
                 R"({"success":false,"message":"reasoning control not enabled for this completion"})");
    }
    CHECK_EQ(answer(handle), plain_loop(prompt(1, 50), n_predict, 1024));
}

TEST(a_control_waits_for_one_step_at_most) {
    step_gate gate;
    engine target(demo_model(), engine_params(2, 8192, true), gate.decoder());
    const auto handle = target.submit(controlled(prompt(1, 20), 100000));
    gate.run(2);
    const auto stranger = target.submit(request(prompt(2, 4000), 1));
    gate.run(2);
    CHECK_EQ(target.metrics().n_running.load(), 2);
    for (const auto action : {control_action::pause, control_action::resume, control_action::stop}) {
        const auto ticket = post(target, handle, action);
        gate.run(1);  // the step that is running, and the next one begins
        CHECK(ticket->results().has_value());
        CHECK(wait_for(ticket).success);
    }
    CHECK(stranger.session->end_offset() == 0);
    gate.open();
    answer(stranger);
}

TEST(too_many_controls_of_one_request_are_refused_and_none_is_lost) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto handle = target.submit(controlled(prompt(1, 50), n_predict));
    gate.run(3);
    std::vector<std::shared_ptr<control_ticket>> tickets;
    for (int i = 0; i < 10000; ++i) {
        tickets.push_back(post(target, handle, i % 2 == 0 ? control_action::pause : control_action::resume));
    }
    gate.open();
    size_t n_success = 0;
    size_t n_busy = 0;
    for (const auto & ticket : tickets) {
        const control_result result = wait_for(ticket);
        n_success += result.success;
        n_busy += result.busy;
    }
    CHECK_EQ(n_success, generation_control::n_outstanding_max);
    CHECK_EQ(n_busy, tickets.size() - n_success);
    CHECK_THROWS(error, control_answer({wait_for(tickets.back())}, false));
    const std::string text = answer(handle);
    CHECK_EQ(without_notes(text), plain_loop(prompt(1, 50), n_predict, 1024));
    CHECK_EQ(static_cast<size_t>(std::count(text.begin(), text.end(), '<')), n_success);
}

TEST(notes_that_cannot_leave_yet_count_as_outstanding) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto first = target.submit(request(prompt(1, 20), 900));
    gate.run(1);
    const auto queued = target.submit(controlled(prompt(2, 20), 5));
    gate.open();
    size_t n_success = 0;
    for (int i = 0; i < 200; ++i) {
        n_success += control(target, queued, i % 2 == 0 ? control_action::pause : control_action::resume).success;
    }
    CHECK_EQ(n_success, generation_control::n_outstanding_max);
    target.cancel(first.control);
    CHECK_EQ(without_notes(answer(queued)), plain_loop(prompt(2, 20), 5, 1024));
}

TEST(a_control_that_races_the_end_is_never_a_false_success) {
    engine target(demo_model(), engine_params(2, 2048, true));
    for (uint32_t seed = 0; seed < 30; ++seed) {
        const auto handle = target.submit(controlled(prompt(seed, 20), 5));
        if (seed % 3 != 0) {
            wait_for_bytes(handle, seed);
        }
        const control_result stopped = control(target, handle, control_action::stop);
        const std::string text = answer(handle);
        CHECK_EQ(contains(text, "<stop "), stopped.success);
        CHECK_EQ(contains(text, "> stop"), stopped.success);
        CHECK_EQ(contains(text, "length"), !stopped.success);
        if (stopped.success) {
            CHECK_EQ(n_words(without_notes(text)), stopped.position);
        }
    }
}

TEST(bodies_of_controls) {
    const control_request parsed =
        parse_control(R"({"id":"chatcmpl-1","action":"pause","choice":2,"model":"m"})", false);
    CHECK_EQ(parsed.id, "chatcmpl-1");
    CHECK(parsed.command.action == control_action::pause);
    CHECK_EQ(parsed.choice, 2);
    const auto refusal = [](const std::string & body) { return CHECK_THROWS(error, parse_control(body, false)); };
    for (const char * body : {R"({"action":"pause"})", R"({"id":"","action":"pause"})", R"({"id":7,"action":"pause"})",
                              R"({"id":null,"action":"nonsense"})", "{}"}) {
        CHECK_EQ(refusal(body), "missing completion id");
    }
    for (const char * body : {R"({"id":"x"})", R"({"id":"x","action":"nonsense"})", R"({"id":"x","action":3})"}) {
        CHECK_EQ(refusal(body), "unknown control action");
    }
    CHECK_EQ(refusal(R"({"id":"x","action":"inject"})"), "'text' is required");
    CHECK_EQ(refusal(R"({"id":"x","action":"inject","text":""})"),
             "'text' must have between 1 and 65536 bytes, but has 0");
    CHECK(contains(refusal(R"({"id":"x","action":"inject","text":")" + std::string(65537, 'x') + "\"}"), "has 65537"));
    CHECK_EQ(refusal(R"({"id":"x","action":"inject","text":["no"]})"), "'text' must be a string");
    CHECK_EQ(refusal(R"({"id":"x","action":"pause","park":1})"), "'park' must be true or false");
    CHECK(contains(refusal(R"({"id":"x","action":"stop","choice":-1})"), "'choice' must be between"));
    CHECK(contains(refusal(R"({"id":"x","action":"stop","choice":"all"})"), "'choice' must be an integer"));
    CHECK(contains(refusal("[]"), "must be a JSON object"));
    CHECK(contains(refusal("{"), "not valid JSON"));
}
