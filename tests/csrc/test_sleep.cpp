// An engine without work gives model and memory away, and is the same when it is wanted again.
#include <unistd.h>

#include <filesystem>
#include <string>
#include <thread>

#include "check.h"
#include "engine.h"
#include "engine_fixture.h"

using namespace pyllama;
using namespace pyllama_test;
namespace fs = std::filesystem;

namespace {

server_params sleeping(int32_t cache_mib = -1) {
    server_params params = engine_params(2, 1024, true);
    params.common.sleep_idle_seconds = 1;
    params.common.cache_ram_mib = cache_mib;
    return params;
}

void wait_until_asleep(const engine & target) {
    while (!target.sleeping()) {
        std::this_thread::yield();
    }
}

// A model of the engine's own, that nobody else holds.
std::shared_ptr<const model> own_model(const server_params & params) {
    return model::load(params.common);
}

}  // namespace

TEST(a_request_wakes_it_and_gets_the_same_answer) {
    const server_params params = sleeping();
    engine target(own_model(params), params);
    const auto tokens = prompt(1, 120);
    const std::string text = plain_loop(tokens, 20, 1024);
    CHECK_EQ(answer(target.submit(request(tokens, 20))), text);
    for (int round = 0; round < 2; ++round) {
        wait_until_asleep(target);
        CHECK(target.awake_model() == nullptr);
        auto made = request(tokens, 20);
        made.model = target.shared_model();
        CHECK(!target.sleeping());
        CHECK_EQ(answer(target.submit(std::move(made))), text);
    }
    // What the slot held was kept.
    CHECK_EQ(target.metrics().n_prompt_tokens.load(), 122u);
}

TEST(what_was_prepared_before_the_sleep_runs_after_it) {
    const server_params params = sleeping(0);
    engine target(own_model(params), params);
    const auto tokens = prompt(1, 120);
    auto made = request(tokens, 20);
    made.model = target.shared_model();
    wait_until_asleep(target);
    CHECK_EQ(answer(target.submit(std::move(made))), plain_loop(tokens, 20, 1024));
    CHECK_EQ(target.metrics().n_cached_tokens.load(), 0u);
}

TEST(what_looks_does_not_wake_it_and_what_asks_the_engine_does) {
    const server_params params = sleeping();
    engine target(own_model(params), params);
    const auto handle = target.submit(request(prompt(1, 50), 5));
    answer(handle);
    wait_until_asleep(target);
    CHECK_EQ(target.metrics().n_finished.load(), 1u);
    CHECK(target.n_ctx_slot() > 0);
    target.cancel(handle.control);  // of a request that has ended
    CHECK(target.sleeping());
    CHECK_EQ(target.slots().size(), 2u);
    CHECK(!target.sleeping());
}

TEST(a_paused_request_keeps_it_awake) {
    server_params params = sleeping();
    params.pause_timeout = 2.5;
    engine target(own_model(params), params);
    const auto handle = target.submit(controlled(prompt(1, 50), 20));
    post(target, *handle.control, {control_action::pause});
    for (bool asleep = target.sleeping(); handle.session->state() != session_state::finished;
         asleep = target.sleeping()) {
        CHECK(!asleep);
        std::this_thread::yield();
    }
    CHECK(answer(handle).find("length") != std::string::npos);
}

TEST(a_model_that_is_gone_fails_the_request_and_not_the_engine) {
    server_params params = sleeping();
    const fs::path path = fs::temp_directory_path() / ("pyllama-sleep-" + std::to_string(getpid()) + ".gguf");
    const fs::path away = path.string() + ".away";
    fs::copy_file(params.common.model.path, path, fs::copy_options::overwrite_existing);
    params.common.model.path = path.string();
    {
        engine target(own_model(params), params);
        wait_until_asleep(target);
        fs::rename(path, away);
        CHECK_THROWS(error, target.shared_model());
        CHECK(target.sleeping());
        auto made = request(prompt(1, 50), 5);
        made.model = demo_model();
        const auto handle = target.submit(std::move(made));
        answer(handle);
        CHECK(handle.session->failure()->kind == error_kind::unavailable);
        CHECK(target.sleeping());
        fs::rename(away, path);
        made = request(prompt(1, 50), 5);
        made.model = target.shared_model();
        CHECK_EQ(answer(target.submit(std::move(made))), plain_loop(prompt(1, 50), 5, 1024));
        wait_until_asleep(target);
    }
    fs::remove(path);
}

TEST(it_ends_asleep_as_well) {
    const server_params params = sleeping();
    engine target(own_model(params), params);
    wait_until_asleep(target);
    target.shutdown("over");
    CHECK_THROWS(error, target.shared_model());
    target.close();
}
