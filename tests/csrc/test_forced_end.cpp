// Ending the reasoning by force, on the bundled model. What proves it: the answer after forced text is the answer to
// a prompt that holds all that stands before, forced text included.
#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "check.h"
#include "engine.h"
#include "engine_fixture.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

constexpr int n_predict = 100;
const std::string message = "Enough, I have to answer now.";

reasoning_params reasoning(int32_t budget, const std::string & text = message) {
    reasoning_tags tags;
    tags.start = "<think>";
    tags.ends = {"</think>"};
    return make_reasoning_params(*demo_model(), tags, {budget, text});
}

prepared_request thinking(const std::vector<llama_token> & tokens, int32_t budget, int n = n_predict,
                          const std::string & text = message) {
    auto made = request(tokens, n);
    made.params.reasoning = reasoning(budget, text);
    return made;
}

llama_token start_tag() {
    return reasoning(-1).start.front().front();
}

std::vector<llama_token> tokens_of(const std::string & text) {
    std::istringstream words(text);
    std::vector<llama_token> tokens;
    llama_token token = 0;
    while (words >> token) {
        tokens.push_back(token);
    }
    return tokens;
}

std::string text_of(const std::vector<llama_token> & tokens) {
    std::string text;
    for (const llama_token token : tokens) {
        text += std::to_string(token) + " ";
    }
    return text;
}

std::vector<llama_token> joined(std::vector<llama_token> first, const std::vector<llama_token> & second) {
    first.insert(first.end(), second.begin(), second.end());
    return first;
}

// The prompt, then what begins the reasoning.
std::vector<llama_token> opened(uint32_t seed, size_t n) {
    auto tokens = prompt(seed, n);
    tokens.push_back(start_tag());
    return tokens;
}

// What the answer has to be: as far as it goes without a budget, the forced text, and how a prompt of both goes on.
std::string expected(const std::vector<llama_token> & tokens, const reasoning_params & params, int n = n_predict) {
    const auto free = tokens_of(plain_loop(tokens, n, 1024));
    reasoning_budget budget(params.start, params.end, params.open, params.budget);
    size_t position = 0;
    while (!budget.due(true)) {
        if (position == free.size()) {
            return text_of(free) + "length";
        }
        budget.sampled(free[position++]);
    }
    auto said = std::vector<llama_token>(free.begin(), free.begin() + static_cast<std::ptrdiff_t>(position));
    said = joined(said, params.forced);
    if (said.size() >= static_cast<size_t>(n)) {
        said.resize(static_cast<size_t>(n));
        return text_of(said) + "length";
    }
    return text_of(said) + plain_loop(joined(tokens, said), n - static_cast<int>(said.size()), 1024);
}

void check_budgets(bool unified) {
    engine target(demo_model(), engine_params(4, 4096, unified));
    std::vector<submitted> handles;
    std::vector<std::string> wanted;
    for (uint32_t seed = 0; seed < 12; ++seed) {
        const auto tokens = prompt(seed, 40 + seed * 17);
        const auto budget = static_cast<int32_t>(seed * 3);
        wanted.push_back(expected(tokens, reasoning(budget)));
        handles.push_back(target.submit(thinking(tokens, budget)));
    }
    for (uint32_t seed = 0; seed < 12; ++seed) {
        CHECK_EQ(answer(handles[seed]), wanted[seed]);
    }
    // Most of them are forced, so that equality says something.
    const std::string forced = text_of(reasoning(0).forced);
    CHECK(std::count_if(wanted.begin(), wanted.end(),
                        [&](const std::string & text) { return text.find(forced) != std::string::npos; }) >= 10);
}

}  // namespace

TEST(budgets_among_others_equal_prompts_with_the_forced_text_in_a_unified_cache) {
    check_budgets(true);
}

TEST(budgets_among_others_equal_prompts_with_the_forced_text_in_streams) {
    check_budgets(false);
}

TEST(forced_text_costs_one_step_and_is_no_prompt) {
    std::string text;
    while (reasoning(5, text).forced.size() < 36) {
        text += "Enough, I have to answer now. ";
    }
    const auto n_forced = reasoning(5, text).forced.size();
    const auto steps_of = [](prepared_request made) {
        engine target(demo_model(), engine_params(1, 1024, true));
        answer(target.submit(std::move(made)));
        wait_until_idle(target);
        CHECK_EQ(target.metrics().n_prompt_tokens.load(), 100u);
        CHECK_EQ(target.metrics().n_generated_tokens.load(), 100u);
        return target.metrics().n_steps.load();
    };
    const auto free = steps_of(thinking(prompt(1, 100), -1, 100));
    CHECK_EQ(free, 100u);
    CHECK_EQ(steps_of(thinking(prompt(1, 100), 5, 100, text)), free - n_forced);
}

TEST(a_budget_of_nothing_is_kept_when_the_prompt_opens_the_block) {
    for (const bool unified : {true, false}) {
        engine target(demo_model(), engine_params(2, 1024, unified));
        const auto tokens = opened(3, 80);
        auto made = thinking(tokens, 0);
        made.params.reasoning.open = true;
        const auto forced = made.params.reasoning.forced;
        const auto said = answer(target.submit(std::move(made)));
        CHECK_EQ(said, text_of(forced) +
                           plain_loop(joined(tokens, forced), n_predict - static_cast<int>(forced.size()), 1024));
        wait_until_idle(target);
        // The forced text went with the prompt.
        CHECK_EQ(target.metrics().n_steps.load(), static_cast<uint64_t>(n_predict) - forced.size());
        CHECK_EQ(target.metrics().n_prompt_tokens.load(), 81u);
    }
}

TEST(a_neighbour_s_prefill_does_not_hold_forced_text_up) {
    engine target(demo_model(), engine_params(3, 4096, true));  // 128 tokens a step
    const auto neighbour = target.submit(request(prompt(1, 480), 3));
    const auto tokens = prompt(2, 40);
    const auto handle = target.submit(thinking(tokens, 4));
    CHECK_EQ(answer(handle), expected(tokens, reasoning(4)));
    CHECK_EQ(answer(neighbour), plain_loop(prompt(1, 480), 3, 2048));
}

TEST(forced_text_larger_than_a_step_is_carried_by_several) {
    std::string text;
    while (reasoning(5, text).forced.size() < 300) {
        text += "Enough, I have to answer now. ";
    }
    const auto params = reasoning(5, text);
    const int n = static_cast<int>(params.forced.size()) + 40;
    for (const bool unified : {true, false}) {
        engine target(demo_model(), engine_params(2, 2048, unified));
        const auto neighbour = target.submit(request(prompt(4, 50), 100));
        CHECK_EQ(answer(target.submit(thinking(prompt(2, 60), 5, n, text))), expected(prompt(2, 60), params, n));
        CHECK_EQ(answer(neighbour), plain_loop(prompt(4, 50), 100, 1024));
    }
}

TEST(limits_hold_inside_the_forced_text) {
    const auto params = reasoning(3);
    const auto whole = tokens_of(expected(prompt(1, 60), params));
    const auto found = std::search(whole.begin(), whole.end(), params.forced.begin(), params.forced.end());
    const auto position = static_cast<int>(found - whole.begin());
    const auto first = [&](int n) { return text_of({whole.begin(), whole.begin() + n}) + "length"; };
    for (const int n : {position, position + 1, position + static_cast<int>(params.forced.size()) - 1,
                        position + static_cast<int>(params.forced.size())}) {
        engine target(demo_model(), engine_params(1, 512, true));
        CHECK_EQ(answer(target.submit(thinking(prompt(1, 60), 3, n))), first(n));
        // The context: n tokens are left of it.
        const auto longer = prompt(1, 512 - static_cast<size_t>(n));
        const std::string text = answer(target.submit(thinking(longer, 3, -1)));
        CHECK_EQ(std::count(text.begin(), text.end(), ' '), n);
        CHECK_EQ(text.substr(text.size() - 6), "length");
        CHECK_EQ(answer(target.submit(thinking(prompt(1, 60), 3, n))), first(n));
    }
}

TEST(a_limit_may_be_reached_before_the_first_step) {
    engine target(demo_model(), engine_params(1, 512, true));
    auto made = thinking(opened(1, 60), 0, 2);
    made.params.reasoning.open = true;
    const auto forced = made.params.reasoning.forced;
    CHECK_EQ(answer(target.submit(std::move(made))), text_of({forced[0], forced[1]}) + "length");
    wait_until_idle(target);
    CHECK_EQ(target.metrics().n_finished.load(), 1u);
    CHECK_EQ(target.metrics().n_generated_tokens.load(), 2u);
    CHECK_EQ(target.metrics().n_steps.load(), 0u);
    // Only the prompt is wanted, in the cache.
    auto cached = thinking(opened(1, 60), 0, 0);
    cached.params.reasoning.open = true;
    CHECK_EQ(answer(target.submit(std::move(cached))), "length");
    wait_until_idle(target);
    CHECK_EQ(target.metrics().n_prompt_tokens.load(), 61u);
}

TEST(parking_loses_no_forced_text) {
    engine target(demo_model(), engine_params(4, 512, true));
    std::vector<submitted> handles;
    for (uint32_t seed = 0; seed < 6; ++seed) {
        handles.push_back(target.submit(thinking(prompt(seed, 90), static_cast<int32_t>(20 + 3 * seed), 150)));
    }
    for (uint32_t seed = 0; seed < 6; ++seed) {
        CHECK_EQ(answer(handles[seed]),
                 expected(prompt(seed, 90), reasoning(static_cast<int32_t>(20 + 3 * seed)), 150));
    }
    CHECK(target.metrics().n_parked.load() > 0);
    wait_until_idle(target);
}

TEST(progress_is_of_the_prompt_alone) {
    engine target(demo_model(), engine_params(1, 1024, true));
    auto made = thinking(opened(1, 299), 0, 40);
    made.params.reasoning.open = true;
    made.params.return_progress = true;
    const auto forced = text_of(made.params.reasoning.forced);
    const auto text = answer(target.submit(std::move(made)));
    const size_t at = text.rfind("/300 ");
    CHECK(at != std::string::npos);
    CHECK_EQ(text.substr(at - 3, 8), "300/300 ");
    CHECK_EQ(text.substr(at + 5, forced.size()), forced);
}

TEST(timings_count_forced_tokens_as_generated) {
    engine target(demo_model(), engine_params(1, 1024, true));
    auto made = thinking(prompt(1, 60), 3, 40);
    made.params.timings_per_token = true;
    std::istringstream words(answer(target.submit(std::move(made))));
    int n_decoded = 0;
    for (std::string word; words >> word;) {
        if (word.front() == '@') {
            CHECK_EQ(word, "@" + std::to_string(++n_decoded));
        }
    }
    CHECK_EQ(n_decoded, 40);
}
