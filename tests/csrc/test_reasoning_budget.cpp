#include "reasoning_budget.h"

#include <algorithm>
#include <string>
#include <vector>

#include "check.h"

using namespace pyllama;
using pyllama_test::random_source;

namespace {

constexpr llama_token start = 1;
constexpr llama_token end = 2;
constexpr bool whole = true;
constexpr bool cut = false;

reasoning_budget simple(int32_t limit, bool open = false) {
    return {{{start}}, {{end}}, open, limit};
}

}  // namespace

TEST(a_budget_is_used_up_by_sampled_tokens_inside) {
    auto budget = simple(2);
    CHECK(budget.state(whole) == budget_state::idle);
    budget.sampled(9);
    budget.sampled(start);
    CHECK(budget.state(whole) == budget_state::counting);
    budget.sampled(9);
    CHECK(!budget.due(whole));
    budget.sampled(9);
    CHECK(budget.state(whole) == budget_state::forcing);
    CHECK(budget.due(whole));
    budget.forced(9);
    CHECK(budget.due(whole));
    budget.forced(end);
    CHECK(budget.state(whole) == budget_state::done);
    CHECK(!budget.due(whole));
    CHECK_EQ(budget.n_used(), 2);
    CHECK_EQ(budget.n_tokens(), 3);
}

TEST(a_cut_character_is_waited_for_and_no_longer_than_a_character_takes) {
    auto budget = simple(1, true);
    budget.sampled(9);
    CHECK(budget.state(cut) == budget_state::waiting_utf8);
    CHECK(!budget.due(cut));
    CHECK(budget.due(whole));
    for (int i = 0; i < reasoning_budget::n_wait_max; ++i) {
        CHECK(!budget.due(cut));
        budget.sampled(9);
    }
    CHECK(budget.due(cut));
}

TEST(nothing_may_be_thought_with_a_budget_of_nothing) {
    auto open = simple(0, true);
    CHECK(open.due(whole));
    auto closed = simple(0);
    CHECK(!closed.due(whole));
    closed.sampled(start);
    CHECK(closed.due(whole));
}

TEST(one_budget_is_for_all_blocks) {
    auto budget = simple(3);
    for (const llama_token token : {start, 9, 9, end, 9, 9, start}) {
        budget.sampled(token);
        CHECK(!budget.due(whole));
    }
    budget.sampled(9);
    CHECK(budget.due(whole));
    budget.forced(end);
    budget.sampled(9);
    CHECK(!budget.due(whole));
    budget.sampled(start);
    CHECK(budget.due(whole));  // a new block ends at once
}

TEST(tags_of_several_tokens_cost_nothing) {
    reasoning_budget budget({{10, 11}, {12}}, {{20, 21}, {22}}, false, 3);
    for (const llama_token token : {10, 11, 9, 20, 21, 12, 9}) {
        budget.sampled(token);
        CHECK(!budget.due(whole));
    }
    CHECK_EQ(budget.n_used(), 2);
    budget.sampled(22);
    CHECK_EQ(budget.n_used(), 2);
    budget.sampled(12);
    budget.sampled(9);
    CHECK(budget.due(whole));
    budget.forced(20);
    CHECK(budget.inside());
    budget.forced(21);
    CHECK(!budget.inside());
}

TEST(a_natural_end_cancels_what_was_asked) {
    auto budget = simple(reasoning_budget::unlimited, true);
    budget.ask();
    CHECK(budget.state(cut) == budget_state::waiting_utf8);
    budget.sampled(end);
    CHECK(!budget.asked());
    budget.sampled(start);
    CHECK(!budget.due(whole));
}

TEST(an_end_that_is_asked_for_early_meets_the_first_block) {
    auto budget = simple(reasoning_budget::unlimited);
    budget.ask();
    budget.sampled(9);
    CHECK(!budget.due(whole));
    budget.sampled(start);
    CHECK(budget.due(whole));
}

TEST(a_budget_may_change_on_the_way) {
    auto budget = simple(2, true);
    budget.sampled(9);
    budget.set_limit(4);
    budget.sampled(9);
    CHECK(!budget.due(whole));
    budget.set_limit(1);
    CHECK(budget.due(whole));
    budget.set_limit(reasoning_budget::unlimited);
    CHECK(!budget.due(whole));
}

TEST(without_tags_nothing_is_ever_due) {
    reasoning_budget budget({}, {}, true, 0);
    budget.ask();
    budget.sampled(9);
    CHECK(!budget.has_tags());
    CHECK(!budget.due(whole));
}

// Random answers, cut characters, requests and changes of the budget, against a model that looks at the whole history
// again after each event.
TEST(random_histories_equal_a_naive_model) {
    for (uint32_t seed = 0; seed < 300; ++seed) {
        random_source random(seed);
        const std::vector<llama_tokens> starts = {{1, 2}, {3}};
        const std::vector<llama_tokens> ends = {{4, 5}, {6}};
        const bool open = random.one_in(2);
        int32_t limit = random.one_in(3) ? -1 : static_cast<int32_t>(random.below(8));
        reasoning_budget budget(starts, ends, open, limit);

        // The naive model: a list of (token, forced) and a flag.
        struct said {
            llama_token token;
            bool forced;
        };
        std::vector<said> history;
        bool asked = false;
        const auto ends_with = [&](size_t n, size_t from, const std::vector<llama_tokens> & sequences) -> size_t {
            for (const auto & sequence : sequences) {
                if (n - from >= sequence.size() &&
                    std::equal(sequence.begin(), sequence.end(),
                               history.begin() + static_cast<long>(n - sequence.size()),
                               [](llama_token a, const said & b) { return a == b.token; })) {
                    return sequence.size();
                }
            }
            return 0;
        };
        const auto walk = [&](bool & inside, int32_t & n_used, int32_t & n_waited) {
            inside = open;
            n_used = 0;
            n_waited = 0;
            size_t from = 0;
            for (size_t n = 1; n <= history.size(); ++n) {
                if (!inside) {
                    if (ends_with(n, from, starts) > 0) {
                        inside = true;
                        from = n;
                    }
                    continue;
                }
                n_used += history[n - 1].forced ? 0 : 1;
                if (const size_t size = ends_with(n, from, ends)) {
                    for (size_t i = n - size; i < n; ++i) {
                        n_used -= history[i].forced ? 0 : 1;
                    }
                    inside = false;
                    from = n;
                }
            }
        };
        for (int event = 0; event < 60; ++event) {
            bool was_inside = false;
            int32_t n_used = 0;
            int32_t n_waited = 0;
            walk(was_inside, n_used, n_waited);
            switch (random.below(8)) {
                case 0:
                    asked = true;
                    budget.ask();
                    break;
                case 1:
                    limit = random.one_in(3) ? -1 : static_cast<int32_t>(random.below(20));
                    budget.set_limit(limit);
                    break;
                default: {
                    const auto token = static_cast<llama_token>(1 + random.below(8));
                    history.push_back({token, false});
                    budget.sampled(token);
                }
            }
            bool inside = false;
            walk(inside, n_used, n_waited);
            asked = asked && !(was_inside && !inside);
            const bool wanted = inside && (asked || (limit >= 0 && n_used >= limit));
            CHECK_EQ(budget.inside(), inside);
            CHECK_EQ(budget.n_used(), n_used);
            CHECK_EQ(budget.wants_end(), wanted);
            CHECK_EQ(budget.due(whole), wanted);
            if (wanted && random.one_in(2)) {  // else the character is cut, and the model goes on
                for (const llama_token token : {7, 8, 4, 5}) {
                    history.push_back({token, true});
                    budget.forced(token);
                }
                asked = false;
                CHECK(!budget.inside());
                CHECK(budget.state(whole) == budget_state::done);
            }
        }
    }
}
