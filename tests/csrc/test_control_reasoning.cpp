// Ending the reasoning of a running request, and changing its budget: what follows the forced text is what follows a
// prompt that holds all of it.
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "control_json.h"
#include "engine_fixture.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

constexpr int n_predict = 60;

reasoning_params reasoning(int32_t budget) {
    reasoning_tags tags;
    tags.start = "<think>";
    tags.ends = {"</think>"};
    return make_reasoning_params(*demo_model(), tags, {budget, "Enough, I have to answer now."});
}

prepared_request thinking(const std::vector<llama_token> & tokens, int32_t budget = -1) {
    auto made = controlled(tokens, n_predict);
    made.params.reasoning = reasoning(budget);
    return made;
}

std::string text_of(const std::vector<llama_token> & tokens) {
    std::string text;
    for (const llama_token token : tokens) {
        text += std::to_string(token) + " ";
    }
    return text;
}

std::string note(const char * action, int32_t position) {
    return std::string("<") + action + " " + std::to_string(position) + "> ";
}

// `position` tokens as they come freely, `between`, the forced text, and what follows all that.
std::string forced_at(const std::vector<llama_token> & tokens, int32_t position, const std::string & between) {
    std::istringstream words(plain_loop(tokens, position, 1024));
    std::vector<llama_token> said(static_cast<size_t>(position));
    for (llama_token & token : said) {
        words >> token;
    }
    const std::string free = text_of(said);
    const auto forced = reasoning(-1).forced;
    said.insert(said.end(), forced.begin(), forced.end());
    auto all = tokens;
    all.insert(all.end(), said.begin(), said.end());
    return free + between + text_of(forced) + plain_loop(all, n_predict - static_cast<int>(said.size()), 1024);
}

std::shared_ptr<control_ticket> post(engine & target, const submitted & handle, const char * body) {
    const control_command command = parse_control(body, true).command;
    return pyllama_test::post(target, *handle.control, command);
}

// Posts in the step after n others, and lets everything run.
control_result control_after(step_gate & gate, int n, engine & target, const submitted & handle, const char * body) {
    gate.run(n);
    const auto ticket = post(target, handle, body);
    gate.open();
    return wait_for(ticket);
}

constexpr const char * end_body = R"({"action":"reasoning_end"})";

}  // namespace

TEST(the_reasoning_ends_at_the_position_that_is_told) {
    for (const bool unified : {true, false}) {
        step_gate gate;
        engine target(demo_model(), engine_params(2, 2048, unified), gate.decoder());
        const auto handle = target.submit(thinking(prompt(1, 60)));
        const control_result ended = control_after(gate, 9, target, handle, end_body);
        CHECK(ended.success && ended.applied && ended.state == request_state::content);
        CHECK_EQ(ended.position, 10);
        CHECK_EQ(answer(handle), forced_at(prompt(1, 60), 10, note("reasoning_end", 10)));
    }
}

TEST(an_end_for_a_queued_request_waits_for_its_reasoning) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto first = target.submit(request(prompt(2, 20), 5));
    gate.run(1);
    const auto queued = target.submit(thinking(prompt(1, 60)));
    const control_result armed = control_after(gate, 1, target, queued, end_body);
    CHECK(armed.success && !armed.applied && armed.state == request_state::queued);
    CHECK_EQ(armed.position, -1);
    CHECK_EQ(answer(queued), forced_at(prompt(1, 60), 1, note("reasoning_end", 1)));
    answer(first);
}

// What was promised and came to nothing is told too, and as that.
TEST(an_armed_end_that_comes_to_nothing_is_told_in_the_stream) {
    const std::string nothing = "<!reasoning_end -1> ";
    const auto armed_while_queued = [&](prepared_request && wanted, auto and_then) {
        step_gate gate;
        engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
        const auto first = target.submit(request(prompt(2, 20), 5));
        gate.run(1);
        const auto queued = target.submit(std::move(wanted));
        const auto ticket = post(target, queued, end_body);
        and_then(target, queued);
        gate.open();
        const control_result armed = wait_for(ticket);
        CHECK(armed.success && !armed.applied);
        const std::string text = answer(queued);
        answer(first);
        CHECK_EQ(target.metrics().n_controls_refused.load(), 1u);
        CHECK_EQ(target.metrics().n_controls[static_cast<size_t>(control_action::reasoning_end)].load(), 0u);
        return text;
    };
    // The reasoning never begins.
    auto plain = thinking(prompt(1, 60));
    plain.params.sampling.logit_bias.push_back({reasoning(-1).start.front().front(), -INFINITY});
    const std::string text = armed_while_queued(std::move(plain), [](engine &, const submitted &) {});
    CHECK_EQ(text.substr(text.size() - 6 - nothing.size()), nothing + "length");
    CHECK_EQ(text.find('<'), text.size() - 6 - nothing.size());
    // A grammar does not let it end.
    auto strict = thinking(prompt(1, 60));
    strict.params.sampling.grammar = common_grammar(COMMON_GRAMMAR_TYPE_USER, R"(root ::= "<think>" [a-z ]+)");
    const std::string refused = armed_while_queued(std::move(strict), [](engine &, const submitted &) {});
    CHECK_EQ(refused.substr(refused.find(' ') + 1, nothing.size()), nothing);
    // The answer ends before its first token.
    CHECK_EQ(armed_while_queued(
                 thinking(prompt(1, 60)),
                 [](engine & target, const submitted & queued) { post(target, queued, R"({"action":"stop"})"); }),
             "<stop 0> " + nothing + "stop");
}

TEST(an_end_in_the_prefill_of_a_prompt_that_opens_the_block_comes_first) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    auto tokens = prompt(1, 300);
    tokens.push_back(reasoning(-1).start.front().front());
    auto asked = thinking(tokens);
    asked.params.reasoning.open = true;
    const auto handle = target.submit(std::move(asked));
    const control_result ended = control_after(gate, 0, target, handle, end_body);
    CHECK(ended.success && ended.applied && ended.state == request_state::prefill);
    CHECK_EQ(ended.position, 0);
    CHECK_EQ(answer(handle), forced_at(tokens, 0, note("reasoning_end", 0)));
}

TEST(nothing_is_ended_outside_the_reasoning) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto handle = target.submit(thinking(prompt(1, 60), 0));
    const control_result refused = control_after(gate, 5, target, handle, end_body);
    CHECK(!refused.success && !refused.applied && refused.state == request_state::content);
    CHECK_EQ(refused.message, "the answer is not inside its reasoning");
    CHECK_EQ(answer(handle), forced_at(prompt(1, 60), 1, ""));
}

TEST(a_request_without_reasoning_tags_has_none_to_control) {
    for (const char * body : {end_body, R"({"action":"reasoning_budget","tokens":5})"}) {
        step_gate gate;
        engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
        auto asked = request(prompt(1, 60), n_predict);
        asked.params.sampling.reasoning_control = true;
        const auto handle = target.submit(std::move(asked));
        const control_result refused = control_after(gate, 5, target, handle, body);
        CHECK(!refused.success);
        CHECK_EQ(refused.message, "this completion has no reasoning that could be ended");
        CHECK_EQ(answer(handle), plain_loop(prompt(1, 60), n_predict, 1024));
    }
}

TEST(a_paused_request_s_reasoning_can_be_ended) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto handle = target.submit(thinking(prompt(1, 60)));
    CHECK(control_after(gate, 9, target, handle, R"({"action":"pause"})").success);
    const control_result ended = wait_for(post(target, handle, end_body));
    CHECK(ended.success && ended.applied && ended.paused);
    CHECK(wait_for(post(target, handle, R"({"action":"resume"})")).success);
    const auto n_forced = static_cast<int32_t>(reasoning(-1).forced.size());
    const std::string text = answer(handle);
    const std::string resumed = note("resume", 10 + n_forced);
    const size_t at = text.find(resumed);
    CHECK(at != std::string::npos);
    CHECK_EQ(text.substr(0, at) + text.substr(at + resumed.size()),
             forced_at(prompt(1, 60), 10, note("pause", 10) + note("reasoning_end", 10)));
}

TEST(a_budget_that_is_used_up_already_ends_the_reasoning_there) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto handle = target.submit(thinking(prompt(1, 60)));
    const control_result changed =
        control_after(gate, 9, target, handle, R"({"action":"reasoning_budget","tokens":3})");
    CHECK(changed.success && changed.applied);
    CHECK_EQ(changed.position, 10);
    CHECK_EQ(answer(handle), forced_at(prompt(1, 60), 10, note("reasoning_budget", 10)));
}

TEST(a_budget_can_be_raised_and_lifted) {
    for (const auto & [body, position] : {std::pair(R"({"action":"reasoning_budget","tokens":"+6"})", 13),
                                          std::pair(R"({"action":"reasoning_budget","tokens":12})", 13),
                                          std::pair(R"({"action":"reasoning_budget","tokens":null})", -1)}) {
        step_gate gate;
        engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
        const auto handle = target.submit(thinking(prompt(1, 60), 6));
        const control_result changed = control_after(gate, 3, target, handle, body);
        CHECK(changed.success && changed.applied && changed.state == request_state::reasoning);
        CHECK_EQ(changed.position, 4);
        std::string text = answer(handle);
        text.erase(text.find('<'), note("reasoning_budget", 4).size());
        CHECK_EQ(text,
                 position < 0 ? plain_loop(prompt(1, 60), n_predict, 1024) : forced_at(prompt(1, 60), position, ""));
    }
}

TEST(an_unlimited_budget_cannot_be_raised) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto handle = target.submit(thinking(prompt(1, 60)));
    const control_result refused =
        control_after(gate, 3, target, handle, R"({"action":"reasoning_budget","tokens":"+1"})");
    CHECK(!refused.success);
    CHECK_EQ(refused.message, "the reasoning budget of this completion is unlimited already");
    CHECK_EQ(answer(handle), plain_loop(prompt(1, 60), n_predict, 1024));
}

TEST(budgets_that_cannot_be_read) {
    for (const char * tokens : {R"("12")", R"("+")", R"("+-1")", R"("+1.5")", R"("+99999999999")", R"("+2147483648")",
                                "-2", "1.5", "2147483648", "[]", "{}", "true", R"("")"}) {
        const std::string body = std::string(R"({"action":"reasoning_budget","tokens":)") + tokens + "}";
        try {
            parse_control(body, true);
            CHECK(false);
        } catch (const error & refused) {
            CHECK_EQ(refused.param, "tokens");
        }
    }
    CHECK_THROWS(error, parse_control(R"({"action":"reasoning_budget"})", true));
    CHECK_EQ(parse_control(R"({"action":"reasoning_budget","tokens":"+2147483647"})", true).command.budget.tokens,
             2147483647);
}
