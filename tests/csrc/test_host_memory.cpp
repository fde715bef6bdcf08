// The budget of host memory in an engine: parked requests keep their state, cached prompts give way, streams have
// theirs.
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "engine.h"
#include "engine_fixture.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

constexpr int n_predict = 40;
constexpr size_t n_frame = 64 * 1024;

server_params with_memory(int n_slots, int n_ctx, int64_t host_mib) {
    server_params params = engine_params(n_slots, n_ctx, true);
    params.common.cache_ram_mib = -1;
    params.host_memory_mib = host_mib;
    return params;
}

// Pauses the request in the step that is running, and parks it.
void park(step_gate & gate, engine & target, const submitted & handle) {
    control_command command{control_action::pause};
    command.park = true;
    const auto ticket = post(target, *handle.control, command);
    gate.open();
    CHECK(wait_for(ticket).success);
    target.slots();  // the step that parks it is over
}

void resume(engine & target, const submitted & handle) {
    CHECK(wait_for(post(target, *handle.control, {control_action::resume})).success);
}

size_t used(const engine & target, memory_part part) {
    return target.budget().used(part);
}

// A frame of 64 KiB for each token.
class wide_writer : public token_writer {
  public:
    void pieces(int32_t, std::vector<piece> & batch, frame_sink & sink) override {
        for (size_t i = 0; i < batch.size(); ++i) {
            sink.frame(std::string(n_frame, 'w'));
        }
    }
};

}  // namespace

TEST(a_parked_request_s_state_is_not_lost_for_cached_prompts) {
    step_gate gate;
    engine target(demo_model(), with_memory(1, 1024, 1), gate.decoder());
    const auto parked = target.submit(controlled(prompt(1, 400), n_predict));
    gate.run(20);
    park(gate, target, parked);
    const size_t n_parked = used(target, memory_part::parked);
    CHECK(n_parked > 400'000);
    // More than there is room for.
    for (uint32_t seed = 2; seed < 8; ++seed) {
        answer(target.submit(request(prompt(seed, 250), 5)));
        CHECK(!target.budget().over());
        CHECK_EQ(used(target, memory_part::parked), n_parked);
    }
    CHECK(used(target, memory_part::prefixes) > 0);
    const uint64_t n_computed = target.metrics().n_prompt_tokens.load();
    resume(target, parked);
    CHECK_EQ(without_notes(answer(parked)), plain_loop(prompt(1, 400), n_predict, 1024));
    CHECK_EQ(target.metrics().n_prompt_tokens.load(), n_computed);
    CHECK_EQ(used(target, memory_part::parked), 0u);
}

TEST(cached_prompts_give_way_to_a_parked_request) {
    step_gate gate;
    engine target(demo_model(), with_memory(1, 1024, 1), gate.decoder());
    const auto first = target.submit(request(prompt(1, 500), 1));
    gate.run(3);
    const auto second = target.submit(controlled(prompt(2, 500), n_predict));
    gate.run(20);
    CHECK(used(target, memory_part::prefixes) > 500'000);
    park(gate, target, second);
    CHECK_EQ(used(target, memory_part::prefixes), 0u);
    CHECK(used(target, memory_part::parked) > 500'000);
    const uint64_t n_computed = target.metrics().n_prompt_tokens.load();
    resume(target, second);
    CHECK_EQ(without_notes(answer(second)), plain_loop(prompt(2, 500), n_predict, 1024));
    CHECK_EQ(target.metrics().n_prompt_tokens.load(), n_computed);
}

TEST(what_does_not_fit_is_computed_again) {
    step_gate gate;
    engine target(demo_model(), with_memory(1, 2048, 1), gate.decoder());
    const auto parked = target.submit(controlled(prompt(1, 1000), n_predict));
    gate.run(20);
    park(gate, target, parked);
    CHECK_EQ(used(target, memory_part::parked), 0u);
    const uint64_t n_computed = target.metrics().n_prompt_tokens.load();
    answer(target.submit(request(prompt(2, 100), 5)));
    resume(target, parked);
    engine alone(demo_model(), engine_params(1, 2048, true));
    CHECK_EQ(without_notes(answer(parked)), answer(alone.submit(request(prompt(1, 1000), n_predict))));
    CHECK(target.metrics().n_prompt_tokens.load() > n_computed + 900);
}

TEST(a_parked_request_that_ends_leaves_a_cached_prompt) {
    step_gate gate;
    engine target(demo_model(), with_memory(1, 1024, 1), gate.decoder());
    const auto parked = target.submit(controlled(prompt(1, 400), n_predict));
    gate.run(20);
    park(gate, target, parked);
    const size_t n_parked = used(target, memory_part::parked);
    target.cancel(parked.control);
    answer(parked);
    wait_until_idle(target);
    CHECK_EQ(used(target, memory_part::parked), 0u);
    CHECK_EQ(used(target, memory_part::prefixes), n_parked);
}

TEST(cached_prompts_give_way_to_streams_also_when_nothing_runs_any_more) {
    engine target(demo_model(), with_memory(1, 1024, 2));
    for (uint32_t seed = 0; seed < 6; ++seed) {
        answer(target.submit(request(prompt(seed, 400), 5)));
    }
    const size_t n_cached = used(target, memory_part::prefixes);
    CHECK(n_cached > 1'400'000);
    auto made = request(prompt(9, 50), 24);
    made.writer = std::make_unique<wide_writer>();
    const submitted wide = target.submit(std::move(made));
    CHECK_EQ(answer(wide).size(), 24 * n_frame + 6);  // and "length"
    while (target.budget().over()) {
        std::this_thread::yield();  // the render thread is about to say so
    }
    CHECK(used(target, memory_part::prefixes) < n_cached);
    CHECK_EQ(wide.session->read(0, SIZE_MAX).slice.n_bytes(), 24 * n_frame + 6);
}

TEST(whatever_comes_the_whole_keeps_to_its_limit) {
    for (uint32_t round = 0; round < 3; ++round) {
        random_source random(round);
        engine target(demo_model(), with_memory(4, 640, 1));
        for (int i = 0; i < 4; ++i) {
            std::vector<submitted> handles;
            std::vector<std::pair<std::vector<llama_token>, int>> asked;
            for (int k = 0; k < 6; ++k) {
                asked.emplace_back(prompt(random.below(8), 60 + random.below(200)),
                                   10 + static_cast<int>(random.below(80)));
                handles.push_back(target.submit(request(asked.back().first, asked.back().second)));
            }
            for (size_t k = 0; k < handles.size(); ++k) {
                CHECK_EQ(answer(handles[k]), plain_loop(asked[k].first, asked[k].second, 1024));
                CHECK(target.budget().used() <= target.budget().limit() + 65536 * handles.size());
            }
            wait_until_idle(target);
            CHECK(!target.budget().over());
            CHECK_EQ(used(target, memory_part::parked), 0u);
        }
        CHECK(target.metrics().n_parked.load() > 0);
    }
}
