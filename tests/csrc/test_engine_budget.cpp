// The step budget in an engine: what its steps are made of, and that nothing of it is seen in the answers.
#include <algorithm>
#include <mutex>

#include "check.h"
#include "engine_fixture.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

struct recorded_step {
    int n_decode = 0;
    int n_prompt = 0;  // tokens
};

// The steps of an engine; read when it is closed.
using step_log = std::vector<recorded_step>;

engine::decoder_factory recording(const std::shared_ptr<step_log> & log) {
    class recording_decoder : public decoder {
      public:
        recording_decoder(const model & source, const common_params & params, std::shared_ptr<step_log> log)
            : decoder(source, params), log_(std::move(log)) {}
        decode_status decode(const std::vector<chunk> & plan) override {
            recorded_step step;
            for (const chunk & part : plan) {
                const bool decodes = part.target->state() == slot_state::decode;
                step.n_decode += decodes ? 1 : 0;
                step.n_prompt += decodes ? 0 : part.end - part.begin;
            }
            log_->push_back(step);
            return decoder::decode(plan);
        }

      private:
        std::shared_ptr<step_log> log_;
    };
    return [log](const model & source, const common_params & params) {
        return std::make_unique<recording_decoder>(source, params, log);
    };
}

server_params params_with(double budget_ms, bool unified) {
    server_params params = engine_params(3, 3 * 1024, unified);
    params.step_budget_ms = budget_ms;
    return params;
}

}  // namespace

TEST(a_long_prompt_beside_two_streams_comes_in_small_chunks) {
    for (const bool unified : {true, false}) {
        const auto log = std::make_shared<step_log>();
        engine target(demo_model(), params_with(0.001, unified), recording(log));
        const auto first = target.submit(request(prompt(1, 30), 100000));
        const auto second = target.submit(request(prompt(2, 30), 100000));
        wait_for_bytes(first, 40);
        wait_for_bytes(second, 40);  // both decode by now, and did in steps without a prompt
        const auto late = target.submit(request(prompt(3, 480), 20));
        CHECK_EQ(answer(late), plain_loop(prompt(3, 480), 20, 1024));
        // A small chunk, or a tile where that takes little longer.
        const int32_t n_chunk = target.metrics().step_prompt_tokens.load();
        CHECK(n_chunk >= 16 && n_chunk <= 64);
        target.cancel(first.control);
        target.cancel(second.control);
        answer(first);
        answer(second);
        target.close();
        const auto has_prompt = [](const recorded_step & step) { return step.n_prompt > 0; };
        CHECK(std::count_if(log->begin(), log->end(), has_prompt) >= 2 + 480 / 64);
        for (const recorded_step & step : *log) {
            CHECK(step.n_prompt <= (step.n_decode > 0 ? 64 : 128));
            CHECK(unified || step.n_prompt == 0 || step.n_decode == 0);
        }
    }
}

TEST(answers_are_the_same_under_every_budget) {
    std::vector<std::string> expected;
    for (uint32_t seed = 0; seed < 6; ++seed) {
        expected.push_back(plain_loop(prompt(seed, 20 + 90 * seed), 40, 1024));
    }
    for (const bool unified : {true, false}) {
        for (const double budget_ms : {-1.0, 0.0, 0.001, 1000.0}) {
            engine target(demo_model(), params_with(budget_ms, unified));
            std::vector<submitted> handles;
            for (uint32_t seed = 0; seed < 6; ++seed) {
                handles.push_back(target.submit(request(prompt(seed, 20 + 90 * seed), 40)));
            }
            for (uint32_t seed = 0; seed < 6; ++seed) {
                CHECK_EQ(answer(handles[seed]), expected[seed]);
            }
        }
    }
}
