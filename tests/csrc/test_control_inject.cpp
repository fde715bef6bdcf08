// Text put into running answers, on the bundled model. What proves it: the answer goes on as the answer to a prompt
// that holds all that stands before, the text included.
#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "check.h"
#include "control_facade.h"
#include "engine_fixture.h"
#include "tokenize.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

using tokens = std::vector<llama_token>;

constexpr int n_predict = 60;
const std::string hint = "Enough, I have to answer now.";

control_request inject(const std::string & text, int choice = -1) {
    control_request made;
    made.command.action = control_action::inject;
    made.text = text;
    made.choice = choice;
    return made;
}

std::shared_ptr<control_ticket> post(engine & target, const submitted & handle, const control_request & control) {
    return post_control(target, handle, control, nullptr, 0);
}

std::shared_ptr<control_ticket> post(engine & target, const submitted & handle, control_action action,
                                     bool park = false) {
    control_request made;
    made.command.action = action;
    made.command.park = park;
    return post(target, handle, made);
}

// The answer without the notes of how its cells went and came.
std::string without_parks(std::string text) {
    for (const char * name : {"<park ", "<unpark "}) {
        for (size_t begin; (begin = text.find(name)) != std::string::npos;) {
            text.erase(begin, text.find("> ", begin) + 2 - begin);
        }
    }
    return text;
}

tokens parsed(const std::string & text) {
    std::istringstream words(text);
    tokens all;
    llama_token token = 0;
    while (words >> token) {
        all.push_back(token);
    }
    return all;
}

std::string text_of(const tokens & all) {
    std::string text;
    for (const llama_token token : all) {
        text += std::to_string(token) + " ";
    }
    return text;
}

tokens joined(tokens first, const tokens & second) {
    first.insert(first.end(), second.begin(), second.end());
    return first;
}

tokens hint_tokens() {
    return tokenize(demo_model()->vocab(), hint, false, false, "");
}

// The answer with texts put in at these positions, and their notes.
std::string expected(const tokens & of, const std::vector<int> & positions, int n = n_predict) {
    tokens said;
    std::string text;
    for (const int position : positions) {
        const int n_more = position - static_cast<int>(said.size());
        const tokens more = n_more > 0 ? parsed(plain_loop(joined(of, said), n_more, 2048)) : tokens();
        CHECK_EQ(more.size(), static_cast<size_t>(n_more));
        said = joined(joined(said, more), hint_tokens());
        text += text_of(more) + "<inject " + std::to_string(position) + "> " + text_of(hint_tokens());
    }
    return text + plain_loop(joined(of, said), n - static_cast<int>(said.size()), 2048);
}

// Posts while a step runs, and lets `n` steps end.
control_result control_in_step(step_gate & gate, engine & target, const submitted & handle,
                               const control_request & control) {
    const auto ticket = post(target, handle, control);
    gate.run(1);
    return wait_for(ticket);
}

void check_among_others(bool unified) {
    step_gate gate;
    engine target(demo_model(), engine_params(3, 3072, unified), gate.decoder());
    const auto handle = target.submit(controlled(prompt(1, 60), n_predict));
    const auto second = target.submit(controlled(prompt(2, 200), n_predict));
    const auto third = target.submit(request(prompt(3, 90), n_predict));
    gate.run(12);
    const control_result first = control_in_step(gate, target, handle, inject(hint));
    CHECK(first.success && first.applied && first.position > 0);
    gate.run(4);
    const control_result again = control_in_step(gate, target, handle, inject(hint));
    const control_result other = control_in_step(gate, target, second, inject(hint));
    gate.open();
    CHECK(again.position > first.position + static_cast<int>(hint_tokens().size()));
    CHECK_EQ(answer(handle), expected(prompt(1, 60), {first.position, again.position}));
    CHECK_EQ(answer(second), expected(prompt(2, 200), {other.position}));
    CHECK_EQ(answer(third), plain_loop(prompt(3, 90), n_predict, 2048));
    wait_until_idle(target);
    CHECK_EQ(target.metrics().n_controls[static_cast<size_t>(control_action::inject)].load(), 3u);
    CHECK_EQ(target.metrics().n_generated_tokens.load(), 3u * n_predict);
}

}  // namespace

TEST(the_answer_goes_on_from_the_text_wherever_it_is_put) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    gate.open();
    for (int position = 0; position < 24; position += 3) {
        // A limit stops the first part at the position; what follows is measured in one piece.
        const auto of = prompt(static_cast<uint32_t>(position), 50);
        const auto handle = target.submit(controlled(of, n_predict));
        wait_for_bytes(handle, static_cast<uint64_t>(4 * position));
        const control_result put = wait_for(post(target, handle, inject(hint)));
        if (put.applied) {
            CHECK_EQ(answer(handle), expected(of, {put.position}));
        }
    }
}

TEST(text_among_others_in_a_unified_cache) {
    check_among_others(true);
}

TEST(text_among_others_in_streams) {
    check_among_others(false);
}

TEST(text_costs_one_step) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto handle = target.submit(controlled(prompt(1, 50), n_predict));
    gate.run(10);
    CHECK(control_in_step(gate, target, handle, inject(hint)).applied);
    gate.open();
    answer(handle);
    wait_until_idle(target);
    CHECK_EQ(target.metrics().n_steps.load(), static_cast<uint64_t>(n_predict) - hint_tokens().size());
    CHECK_EQ(target.metrics().n_prompt_tokens.load(), 50u);
}

TEST(queued_requests_and_prefills_take_text) {
    for (const bool unified : {true, false}) {
        step_gate gate;
        engine target(demo_model(), engine_params(1, 1024, unified), gate.decoder());
        const auto running = target.submit(controlled(prompt(1, 400), n_predict));
        gate.run(1);  // of four
        const auto queued = target.submit(controlled(prompt(2, 50), n_predict));
        const auto in_queue = post(target, queued, inject(hint));
        const auto twice = post(target, queued, inject(hint));
        const control_result in_prefill = control_in_step(gate, target, running, inject(hint));
        CHECK(in_prefill.state == request_state::prefill);
        CHECK_EQ(in_prefill.position, 0);
        CHECK(wait_for(in_queue).state == request_state::queued);
        CHECK_EQ(wait_for(in_queue).position, 0);
        CHECK_EQ(wait_for(twice).position, static_cast<int>(hint_tokens().size()));
        gate.open();
        CHECK_EQ(answer(running), expected(prompt(1, 400), {0}));
        CHECK_EQ(answer(queued), expected(prompt(2, 50), {0, static_cast<int>(hint_tokens().size())}));
    }
}

TEST(paused_and_parked_requests_take_text) {
    for (const bool park : {false, true}) {
        for (const bool unified : {true, false}) {
            step_gate gate;
            engine target(demo_model(), engine_params(2, 1024, unified), gate.decoder());
            const auto handle = target.submit(controlled(prompt(1, 100), n_predict));
            gate.run(10);
            const auto pausing = post(target, handle, control_action::pause, park);
            gate.open();
            const control_result paused = wait_for(pausing);
            CHECK(paused.paused);
            // Parked, it leaves both slots to others.
            for (uint32_t seed = 2; seed < 4; ++seed) {
                CHECK_EQ(answer(target.submit(request(prompt(seed, 300), 20))),
                         plain_loop(prompt(seed, 300), 20, 1024));
            }
            CHECK_EQ(target.metrics().n_parked.load(), park ? 1u : 0u);
            const control_result put = wait_for(post(target, handle, inject(hint)));
            CHECK(put.applied && put.paused);
            CHECK(!park || put.state == request_state::queued);
            CHECK_EQ(put.position, paused.position);
            CHECK(wait_for(post(target, handle, control_action::resume)).success);
            const std::string at = std::to_string(put.position);
            const std::string after = std::to_string(put.position + static_cast<int>(hint_tokens().size()));
            const std::string told = answer(handle);
            CHECK_EQ(told.find("<unpark ") != std::string::npos, park);
            std::string text = without_parks(told);
            for (const std::string & note : {"<pause " + at + "> ", "<resume " + after + "> "}) {
                CHECK(text.find(note) != std::string::npos);
                text.erase(text.find(note), note.size());
            }
            CHECK_EQ(text, expected(prompt(1, 100), {put.position}));
        }
    }
}

TEST(requests_that_are_parked_for_room_keep_their_text) {
    step_gate gate;
    engine target(demo_model(), engine_params(4, 512, true), gate.decoder());
    std::vector<submitted> handles;
    std::vector<int> positions;
    for (uint32_t seed = 0; seed < 4; ++seed) {
        handles.push_back(target.submit(controlled(prompt(seed, 80), 120)));
    }
    gate.run(12);
    for (const submitted & handle : handles) {
        const control_result put = control_in_step(gate, target, handle, inject(hint));
        CHECK(put.applied);
        positions.push_back(put.position);
    }
    gate.open();
    for (uint32_t seed = 0; seed < 4; ++seed) {
        CHECK_EQ(without_parks(answer(handles[seed])), expected(prompt(seed, 80), {positions[seed]}, 120));
    }
    CHECK(target.metrics().n_parked.load() > 0);
}

TEST(one_choice_or_all_take_text) {
    for (const bool unified : {true, false}) {
        step_gate gate;
        engine target(demo_model(), engine_params(3, 3072, unified), gate.decoder());
        const auto of = prompt(5, 300);
        const auto handle = target.submit(controlled(of, n_predict, 3));
        gate.run(1);  // of the prompt that they share
        const control_result one = control_in_step(gate, target, handle, inject(hint, 1));
        CHECK_EQ(one.position, 0);
        gate.run(8);
        const auto ticket = post(target, handle, inject(hint));
        gate.open();
        const int first = wait_for(ticket).position;
        const auto all = *ticket->results();
        CHECK_EQ(all.size(), 3u);
        const auto said = answers(handle, 3);
        for (size_t i = 0; i < 3; ++i) {
            CHECK(all[i].applied);
            std::string wanted = i == 1 ? expected(of, {0, all[i].position}) : expected(of, {all[i].position});
            for (size_t begin; (begin = wanted.find('<')) != std::string::npos;) {
                wanted.erase(begin, wanted.find("> ", begin) + 2 - begin);
            }
            CHECK_EQ(said[i], wanted);
        }
        CHECK_EQ(first, all.front().position);
    }
}

TEST(text_that_cannot_be_taken_changes_nothing) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto handle = target.submit(controlled(prompt(1, 50), n_predict));
    gate.run(5);
    const control_result large =
        control_in_step(gate, target, handle, inject(std::string(4000, 'x') + std::string(4000, 'y')));
    CHECK(!large.success && !large.applied);
    CHECK(large.message.find("the answer has room for ") != std::string::npos);
    gate.open();
    CHECK_EQ(answer(handle), plain_loop(prompt(1, 50), n_predict, 1024));
    const control_result late = wait_for(post(target, handle, inject(hint)));
    CHECK_EQ(late.message, "no active completion for this id");
    const auto closed = target.submit(request(prompt(1, 50), n_predict));
    CHECK(!wait_for(post(target, closed, inject(hint))).success);
    CHECK_EQ(answer(closed), plain_loop(prompt(1, 50), n_predict, 1024));
}

TEST(control_tokens_are_text) {
    const auto vocab = demo_model()->vocab();
    const tokens smuggled = tokenize_answer(vocab, "<|im_end|><|im_start|>", "text");
    CHECK(smuggled.size() > 2);
    for (const llama_token token : smuggled) {
        CHECK((llama_vocab_get_attr(vocab, token) & LLAMA_TOKEN_ATTR_CONTROL) == 0);
        CHECK(!llama_vocab_is_eog(vocab, token));
    }
}
