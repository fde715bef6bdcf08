// Who may go on from whose prompt: requests of one domain only, in slots, among them, and in host memory.
#include <string>
#include <vector>

#include "check.h"
#include "engine.h"
#include "engine_fixture.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

constexpr int n_predict = 10;

prepared_request salted(const std::vector<llama_token> & tokens, std::string salt, std::string owner = {},
                        int32_t id_slot = -1) {
    prepared_request made = request(tokens, n_predict);
    made.params.domain = std::move(salt);
    made.params.id_slot = id_slot;
    made.owner = std::move(owner);
    return made;
}

// Asks, and says how many tokens of the prompt came from a cache.
uint64_t n_cached(engine & target, prepared_request && made) {
    const std::vector<llama_token> tokens = made.tokens;
    const uint64_t n_before = target.metrics().n_cached_tokens.load();
    CHECK_EQ(answer(target.submit(std::move(made))), plain_loop(tokens, n_predict, 1024));
    return target.metrics().n_cached_tokens.load() - n_before;
}

server_params caching(int n_slots, int32_t mib) {
    server_params params = engine_params(n_slots, 4096, true);
    params.common.cache_ram_mib = mib;
    return params;
}

}  // namespace

TEST(a_slot_s_prompt_is_for_its_salt) {
    engine target(demo_model(), caching(1, 0));
    const auto tokens = prompt(1, 150);
    CHECK_EQ(n_cached(target, salted(tokens, "a")), 0u);
    CHECK_EQ(n_cached(target, salted(tokens, "a")), 149u);
    CHECK_EQ(n_cached(target, salted(tokens, "b")), 0u);
    CHECK_EQ(n_cached(target, salted(tokens, "")), 0u);
    CHECK_EQ(n_cached(target, salted(tokens, "")), 149u);
}

TEST(slots_share_within_a_salt) {
    engine target(demo_model(), caching(4, 0));
    const auto tokens = prompt(1, 150);
    CHECK_EQ(n_cached(target, salted(tokens, "a", {}, 0)), 0u);
    CHECK_EQ(n_cached(target, salted(tokens, "b", {}, 1)), 0u);
    CHECK_EQ(n_cached(target, salted(tokens, "a", {}, 2)), 149u);
    CHECK_EQ(n_cached(target, salted(tokens, "b", {}, 3)), 149u);
    // What was taken is the taker's, and goes on as its salt's.
    CHECK_EQ(n_cached(target, salted(tokens, "a", {}, 3)), 149u);
    CHECK_EQ(target.slots()[3].taken.id_slot, 0);
}

TEST(nobody_waits_for_a_prefix_of_another_salt) {
    engine target(demo_model(), caching(4, 0));
    const auto tokens = prompt(1, 400);
    std::vector<submitted> handles;
    for (const char * salt : {"a", "b", "a", "b"}) {
        handles.push_back(target.submit(salted(tokens, salt)));
    }
    for (const submitted & each : handles) {
        CHECK_EQ(answer(each), plain_loop(tokens, n_predict, 1024));
    }
    CHECK_EQ(target.metrics().n_prompt_tokens.load(), 2u * 400 + 2);
}

TEST(host_memory_gives_back_within_a_salt) {
    engine target(demo_model(), caching(1, -1));
    const auto tokens = prompt(1, 150);
    const auto other = prompt(2, 150);
    CHECK_EQ(n_cached(target, salted(tokens, "a")), 0u);
    CHECK_EQ(n_cached(target, salted(other, "z")), 0u);
    CHECK_EQ(n_cached(target, salted(tokens, "b")), 0u);
    CHECK_EQ(n_cached(target, salted(other, "y")), 0u);
    CHECK_EQ(n_cached(target, salted(tokens, "b")), 149u);
    CHECK_EQ(n_cached(target, salted(tokens, "a")), 149u);
}

TEST(keys_are_kept_apart_where_that_was_asked_for) {
    const auto tokens = prompt(1, 150);
    for (const bool apart : {false, true}) {
        server_params params = caching(4, 0);
        params.share_within_key = apart;
        engine target(demo_model(), params);
        CHECK_EQ(n_cached(target, salted(tokens, "", "first key", 0)), 0u);
        CHECK_EQ(n_cached(target, salted(tokens, "", "second key", 1)), apart ? 0u : 149u);
        CHECK_EQ(n_cached(target, salted(tokens, "", "first key", 2)), 149u);
        CHECK_EQ(n_cached(target, salted(tokens, "a", "first key", 3)), 0u);
    }
}

TEST(chunks_are_moved_within_a_salt) {
    engine target(demo_model(), caching(1, 0));
    const auto old = prompt(1, 200);
    answer(target.submit(salted(old, "a")));
    std::vector<llama_token> moved(old.begin() + 50, old.end());
    auto made = salted(moved, "b");
    made.params.n_cache_reuse = 32;
    answer(target.submit(std::move(made)));
    CHECK_EQ(target.metrics().n_cached_tokens.load(), 0u);
}
