// Other sampling parameters for a request that runs: from the position that is told, its tokens are those of a request
// that had them from there on.
#include <sstream>
#include <string>
#include <vector>

#include "check.h"
#include "control_facade.h"
#include "engine_fixture.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

constexpr int n_predict = 40;

prepared_request sampled(const std::vector<llama_token> & tokens, float temperature = 0, uint32_t seed = 1) {
    auto made = controlled(tokens, n_predict);
    made.params.sampling.temp = temperature;
    made.params.sampling.seed = seed;
    return made;
}

std::vector<llama_token> tokens_of(const std::string & text) {
    std::istringstream words(text);
    std::vector<llama_token> tokens;
    for (std::string word; words >> word;) {
        if (word == "<sampling") {
            words >> word;
        } else if (word.find_first_not_of("0123456789") == std::string::npos) {
            tokens.push_back(std::stoi(word));
        }
    }
    return tokens;
}

control_result change(step_gate & gate, int n, engine & target, const submitted & handle, const std::string & fields) {
    gate.run(n);
    const auto parsed = read_control(R"({"action":"sampling",)" + fields + "}", true);
    const auto ticket = post_control(target, handle, *parsed, nullptr, 0);
    gate.open();
    return wait_for(ticket);
}

// What a greedy request says after a prompt and n tokens of an answer to it.
std::string greedy_after(const std::vector<llama_token> & prompt_tokens, const std::vector<llama_token> & said, int n) {
    auto all = prompt_tokens;
    all.insert(all.end(), said.begin(), said.begin() + n);
    return plain_loop(all, n_predict - n, 1024);
}

}  // namespace

TEST(greedy_from_the_position_that_is_told) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto tokens = prompt(1, 60);
    const auto handle = target.submit(sampled(tokens, 1.5f));
    const control_result changed = change(gate, 9, target, handle, R"("temperature":0)");
    CHECK(changed.success && changed.applied);
    CHECK_EQ(changed.position, 10);
    const auto said = tokens_of(answer(handle));
    CHECK_EQ(said.size(), static_cast<size_t>(n_predict));
    CHECK(std::vector<llama_token>(said.begin() + 10, said.end()) == tokens_of(greedy_after(tokens, said, 10)));
}

TEST(a_change_of_nothing_changes_nothing) {
    // The random numbers and what the penalties remember go on.
    const auto tokens = prompt(1, 60);
    const auto make = [&] {
        auto made = sampled(tokens, 3.0f, 7);  // far from what is likeliest
        made.params.sampling.penalty_repeat = 1.3f;
        made.params.sampling.penalty_last_n = 64;
        return made;
    };
    engine free(demo_model(), engine_params(1, 1024, true));
    const auto expected = tokens_of(answer(free.submit(make())));
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto handle = target.submit(make());
    CHECK(change(gate, 9, target, handle, R"("temperature":3.0)").success);
    CHECK(tokens_of(answer(handle)) == expected);
}

// As a request with that seed has it: choice k the seed plus k, whether all choices are told or one.
TEST(each_choice_has_the_seed_plus_its_number) {
    const auto tokens = prompt(1, 60);
    const auto seeded = [](uint32_t seed, const std::string & more) {
        return R"("temperature":3,"top_p":1,"min_p":0,"top_k":0,"seed":)" + std::to_string(seed) + more;
    };
    std::vector<std::string> alone;
    for (const uint32_t k : {0u, 1u, 2u}) {
        step_gate gate;
        engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
        const auto handle = target.submit(sampled(tokens));
        CHECK(change(gate, 9, target, handle, seeded(7 + k, "")).success);
        const std::string text = answer(handle);
        const size_t at = text.find('<');
        alone.push_back(text.substr(0, at) + text.substr(text.find("> ", at) + 2));
    }
    CHECK(alone[0] != alone[1] && alone[1] != alone[2]);
    for (const bool all : {true, false}) {
        step_gate gate;
        engine target(demo_model(), engine_params(3, 3072, true), gate.decoder());
        auto made = request(tokens, n_predict, 3);
        made.params.sampling.reasoning_control = true;
        const auto handle = target.submit(std::move(made));
        CHECK(change(gate, 9, target, handle, seeded(7, all ? "" : R"(,"choice":2)")).success);
        const auto texts = answers(handle, 3);
        CHECK_EQ(texts[2], alone[2]);
        for (const size_t k : {size_t{0}, size_t{1}}) {
            CHECK_EQ(texts[k], all ? alone[k] : plain_loop(tokens, n_predict, 1024));
        }
    }
}

TEST(a_smaller_limit_ends_the_answer) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto handle = target.submit(sampled(prompt(1, 60)));
    const control_result changed = change(gate, 9, target, handle, R"("max_tokens":10)");
    CHECK(changed.success && changed.state == request_state::finished);
    const std::string ten = plain_loop(prompt(1, 60), 10, 1024);
    CHECK_EQ(answer(handle), ten.substr(0, ten.size() - 6) + "<sampling 10> length");
}

TEST(a_larger_limit_and_other_stop_strings) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto tokens = prompt(1, 60);
    const auto free = tokens_of(plain_loop(tokens, 20, 1024));
    const std::string word = demo_model()->piece(free[19], false);
    auto asked = sampled(tokens);
    asked.params.n_predict = 12;
    const auto handle = target.submit(std::move(asked));
    common_json fields = {{"action", "sampling"}, {"max_tokens", 400}, {"stop", word}};
    const std::string body = fields.dump();
    CHECK(change(gate, 9, target, handle, body.substr(1, body.size() - 2)).success);
    const std::string text = answer(handle);
    CHECK_EQ(text.substr(text.size() - 4), "stop");
    CHECK(tokens_of(text).size() <= 19u);
}

TEST(a_token_can_be_banned) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto tokens = prompt(1, 60);
    const auto free = tokens_of(plain_loop(tokens, n_predict, 1024));
    const auto handle = target.submit(sampled(tokens));
    const std::string banned = std::to_string(free[10]);
    CHECK(change(gate, 9, target, handle, R"("logit_bias":[[)" + banned + ",false]]").success);
    const auto said = tokens_of(answer(handle));
    CHECK(said.size() > 10 && said[10] != free[10]);
}

TEST(changes_build_on_one_another_and_bad_ones_leave_no_trace) {
    step_gate gate;
    engine target(demo_model(), engine_params(1, 1024, true), gate.decoder());
    const auto handle = target.submit(sampled(prompt(1, 60)));
    gate.run(3);
    const auto post = [&](const std::string & fields) {
        return post_control(target, handle, *read_control(R"({"action":"sampling",)" + fields + "}", true), nullptr, 0);
    };
    const auto first = post(R"("top_k":7)");
    CHECK_THROWS(error, post(R"("top_p":0.5,"repeat_penalty":0)"));
    CHECK_THROWS(error, post(R"("top_p":0.5,"stream":true)"));
    const auto second = post(R"("min_p":0.25,"max_tokens":1000)");
    const auto pause = post_control(target, handle, *read_control(R"({"action":"pause"})", true), nullptr, 0);
    gate.open();
    wait_for(pause);
    CHECK(first->results() && second->results());
    const auto params = common_json::parse(target.slots().front().params);
    CHECK_EQ(params.at("top_k").get<int>(), 7);
    CHECK(params.at("top_p").get<double>() > 0.6);
    CHECK(params.at("min_p").get<double>() == 0.25);
    CHECK_EQ(params.at("max_tokens").get<int>(), 1000);
    target.cancel(handle.control);
    answer(handle);
}
