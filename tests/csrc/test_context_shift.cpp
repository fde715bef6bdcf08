// Contexts that are full and go on: the tokens are those of a plain loop that drops the same ones.
#include <algorithm>
#include <string>
#include <vector>

#include "check.h"
#include "context_shift.h"
#include "engine.h"
#include "engine_fixture.h"
#include "plain_run.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

server_params shifting(int n_slots, int n_ctx, bool unified) {
    server_params params = engine_params(n_slots, n_ctx, unified);
    params.common.ctx_shift = true;
    return params;
}

prepared_request keeping(const std::vector<llama_token> & tokens, int n, int n_keep, int n_discard, int n_choices = 1) {
    auto made = request(tokens, n, n_choices);
    made.params.n_keep = n_keep;
    made.params.n_discard = n_discard;
    return made;
}

std::string expected(const std::vector<llama_token> & tokens, int n, int n_keep, int n_discard,
                     bool recompute = false) {
    plain_options options;
    options.n_ctx = 256;
    options.shift = true;
    options.recompute = recompute;
    options.n_keep = n_keep;
    options.n_discard = n_discard;
    return plain_run(*demo_model(), tokens, n, options);
}

}  // namespace

TEST(what_is_dropped_leaves_what_is_kept_and_what_is_fresh) {
    const token_range half = choose_dropped(256, 1, 256, 5, 0);
    CHECK_EQ(half.begin, 5);
    CHECK_EQ(half.n, 125);
    CHECK_EQ(choose_dropped(256, 1, 256, 5, 1).n, 1);
    CHECK_EQ(choose_dropped(256, 1, 256, 5, 1000000).n, 249);
    random_source random(1);
    for (int i = 0; i < 20000; ++i) {
        const auto n_ctx = static_cast<int32_t>(5 + random.below(300));
        const auto n_keep = static_cast<int32_t>(random.below(400));
        const int32_t kept = std::min(n_keep, n_ctx - 4);
        const auto n_fresh = static_cast<int32_t>(1 + random.below(static_cast<uint32_t>(n_ctx - kept - 2)));
        const int32_t n_tokens = n_ctx - 1 + n_fresh;
        const token_range dropped =
            choose_dropped(n_tokens, n_fresh, n_ctx, n_keep, static_cast<int32_t>(random.below(3) * random.below(300)));
        CHECK_EQ(dropped.begin, kept);
        CHECK(dropped.n >= 1);
        CHECK(dropped.begin + dropped.n < n_tokens - n_fresh);
        CHECK(n_tokens - dropped.n < n_ctx);
    }
}

TEST(a_shifted_answer_equals_a_plain_loop_that_shifts) {
    for (const bool unified : {true, false}) {
        for (const auto & [n_keep, n_discard] : std::vector<std::pair<int, int>>{{0, 0}, {20, 0}, {20, 7}, {100, 60}}) {
            const int n_slots = unified ? 1 : 2;
            engine target(demo_model(), shifting(n_slots, 256 * n_slots, unified));
            const auto tokens = prompt(4, 120);
            CHECK_EQ(answer(target.submit(keeping(tokens, 400, n_keep, n_discard))),
                     expected(tokens, 400, n_keep, n_discard));
        }
    }
}

TEST(shifted_answers_beside_each_other_are_the_same) {
    engine target(demo_model(), shifting(3, 768, false));
    std::vector<submitted> handles;
    for (uint32_t seed = 0; seed < 6; ++seed) {
        handles.push_back(target.submit(keeping(prompt(seed, 100 + seed * 20), 300, 10, 0)));
    }
    for (uint32_t seed = 0; seed < 6; ++seed) {
        CHECK_EQ(answer(handles[seed]), expected(prompt(seed, 100 + seed * 20), 300, 10, 0));
    }
}

TEST(without_the_flag_a_full_context_ends_the_answer) {
    engine target(demo_model(), engine_params(1, 256, true));
    const auto tokens = prompt(4, 120);
    CHECK_EQ(answer(target.submit(request(tokens, 400))), expected(tokens, 136, 0, 0));
}

TEST(what_was_moved_is_no_prefix_for_others) {
    engine target(demo_model(), shifting(1, 256, true));
    const auto tokens = prompt(5, 120);
    answer(target.submit(keeping(tokens, 200, 30, 0)));
    // The first thirty are as they were computed; what moved behind them is not looked at.
    CHECK_EQ(answer(target.submit(request(tokens, 40))), plain_loop(tokens, 40, 1024));
    CHECK_EQ(target.metrics().n_cached_tokens.load(), 30u);
}

// The slot's tokens begin like the second prompt, but what they were moved from was another context.
TEST(a_prompt_like_what_was_moved_is_computed) {
    for (const int32_t mib : {0, -1}) {
        server_params params = shifting(1, 256, true);
        params.common.cache_ram_mib = mib;
        engine target(demo_model(), params);
        const auto first = prompt(0, 200);
        answer(target.submit(keeping(first, 80, 5, 50)));
        if (mib != 0) {
            answer(target.submit(request(prompt(1, 200), 5)));  // the first goes to host memory
        }
        std::vector<llama_token> moved(first.begin(), first.begin() + 5);
        moved.insert(moved.end(), first.begin() + 55, first.end());
        const uint64_t n_cached = target.metrics().n_cached_tokens.load();
        CHECK_EQ(answer(target.submit(request(moved, 20))), plain_loop(moved, 20, 256));
        CHECK(target.metrics().n_cached_tokens.load() - n_cached <= 5u);
    }
}

TEST(choices_that_share_cells_are_computed_again_instead) {
    server_params params = shifting(2, 512, true);
    params.common.kv_unified_per_slot = 256;
    engine limited(demo_model(), params);
    const auto tokens = prompt(6, 120);
    const auto texts = answers(limited.submit(keeping(tokens, 200, 10, 0, 2)), 2);
    CHECK_EQ(texts[0], expected(tokens, 200, 10, 0, true));
    // By then the other one's cells are its own.
    CHECK_EQ(texts[1], expected(tokens, 200, 10, 0, false));
}

namespace {

// Looks at every place, with no thought for what that costs.
std::vector<moved_chunk> chunks_by_hand(const std::vector<llama_token> & old, const std::vector<llama_token> & tokens,
                                        size_t kept, size_t n_least) {
    std::vector<moved_chunk> chunks;
    size_t to = kept;
    for (size_t from = kept; from < old.size() && to + 1 < tokens.size();) {
        size_t n = 0;
        while (from + n < old.size() && to + n + 1 < tokens.size() && old[from + n] == tokens[to + n]) {
            ++n;
        }
        if (n >= n_least) {
            chunks.push_back({from, to, n});
            from += n;
            to += n;
        } else {
            ++from;
        }
    }
    return chunks;
}

}  // namespace

TEST(chunks_are_those_that_a_plain_search_finds) {
    random_source random(1);
    size_t n_found = 0;
    for (int i = 0; i < 20000; ++i) {
        const uint32_t n_kinds = 1 + random.below(4);
        const auto list = [&](size_t n) {
            std::vector<llama_token> tokens(n);
            for (llama_token & each : tokens) {
                each = static_cast<llama_token>(random.below(n_kinds));
            }
            return tokens;
        };
        const auto old = list(random.below(60));
        const auto tokens = list(1 + random.below(60));
        const size_t kept = random.below(static_cast<uint32_t>(std::min(old.size() + 1, tokens.size())));
        const size_t n_least = 1 + random.below(8);
        const auto found = find_chunks(old, tokens, kept, n_least);
        const auto expected_chunks = chunks_by_hand(old, tokens, kept, n_least);
        CHECK_EQ(found.size(), expected_chunks.size());
        for (size_t k = 0; k < found.size(); ++k) {
            CHECK_EQ(found[k].from, expected_chunks[k].from);
            CHECK_EQ(found[k].to, expected_chunks[k].to);
            CHECK_EQ(found[k].n, expected_chunks[k].n);
        }
        n_found += found.size();
    }
    CHECK(n_found > 10000);
}

TEST(looking_for_chunks_is_linear_whatever_the_client_sends) {
    constexpr size_t n = 20000;
    const std::vector<llama_token> old(n, 7);
    for (const size_t n_least : {size_t{1}, size_t{2}, n / 2, n - 2}) {
        for (const size_t n_alike : {size_t{0}, n_least - 1, n_least}) {
            // One token after so many would break every run.
            std::vector<llama_token> tokens(n, 7);
            tokens[std::min(n_alike, n - 1)] = 8;
            size_t n_compared = 0;
            find_chunks(old, tokens, 0, n_least, &n_compared);
            CHECK(n_compared <= 6 * (old.size() + tokens.size()));
        }
    }
}

// A long message lands at every fill of the context.
TEST(forced_text_makes_room_for_itself) {
    reasoning_tags tags;
    tags.start = "<think>";
    tags.ends = {"</think>"};
    tags.open = true;
    server_params params = shifting(4, 1024, false);
    engine target(demo_model(), params);
    std::vector<submitted> handles;
    for (int budget = 1; budget < 80; ++budget) {
        auto made = keeping(prompt(1, 180), 200, 10, budget % 3 == 0 ? 5 : 0);
        made.params.reasoning =
            make_reasoning_params(*demo_model(), tags, {budget, std::string(60, '9') + " and " + std::string(20, 'x')});
        handles.push_back(target.submit(std::move(made)));
    }
    for (const submitted & handle : handles) {
        const std::string text = answer(handle);
        CHECK_EQ(std::count(text.begin(), text.end(), ' '), 200);
        CHECK(text.find("length") != std::string::npos);
    }
    CHECK_EQ(target.metrics().n_failed.load(), 0u);
}

TEST(a_cancelled_shift_leaves_nothing_behind) {
    step_gate gate;
    engine target(demo_model(), shifting(1, 256, true), gate.decoder());
    const auto tokens = prompt(4, 250);
    const auto handle = target.submit(keeping(tokens, 100, 10, 0));
    gate.run(8);
    target.cancel(handle.control);
    gate.open();
    answer(handle);
    CHECK_EQ(answer(target.submit(request(tokens, 5))), plain_loop(tokens, 5, 1024));
}

TEST(chunks_of_an_old_prompt_are_moved_to_where_a_new_one_has_them) {
    engine target(demo_model(), engine_params(1, 1024, true));
    const auto head = prompt(7, 40);
    const auto dropped = prompt(8, 50);
    const auto tail = prompt(9, 120);
    auto old = head;
    old.insert(old.end(), dropped.begin(), dropped.end());
    old.insert(old.end(), tail.begin(), tail.end());
    auto shorter = head;
    shorter.insert(shorter.end(), tail.begin(), tail.end());
    answer(target.submit(request(old, 5)));
    auto made = request(shorter, 20);
    made.params.n_cache_reuse = 32;
    answer(target.submit(std::move(made)));
    // All but the last token, of the head and of the tail.
    CHECK_EQ(target.metrics().n_cached_tokens.load(), 159u);
    CHECK_EQ(target.metrics().n_prompt_tokens.load(), 211u);
    // What was moved is exact for nobody else.
    CHECK_EQ(answer(target.submit(request(shorter, 20))), plain_loop(shorter, 20, 1024));
}
