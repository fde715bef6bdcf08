// Engines of all shapes under random load, for the sanitizers above all: nothing hangs, every request ends and every
// control is answered, readers see the same bytes, and requests that nobody disturbs get the tokens they would get
// alone. PYLLAMA_LOAD_SECONDS makes it longer, PYLLAMA_LOAD_SEED different.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "engine_fixture.h"
#include "load_client.h"
#include "temporary_directory.h"

using namespace pyllama;
using namespace pyllama_test;

#ifdef __SANITIZE_THREAD__
// llama-common writes the date for templates with std::localtime, whose one result all threads share: what they write
// there at the same time is the same time. (tzset's own lock is not seen.) Visible, or libtsan would not find it.
extern "C" __attribute__((visibility("default"))) const char * __tsan_default_suppressions() {
    return "race:format_time\n";
}
#endif

namespace {

constexpr int n_clients = 3;
constexpr int n_actions = 40;  // of a client in a round
constexpr int n_rounds = 4;    // unless a time is given

uint32_t number_from(const char * variable, uint32_t otherwise) {
    const char * text = std::getenv(variable);
    return text != nullptr ? static_cast<uint32_t>(std::strtoul(text, nullptr, 10)) : otherwise;
}

std::vector<known_answer> known_answers() {
    std::vector<known_answer> known;
    for (const size_t n_prompt : {30u, 150u, 280u}) {
        for (uint32_t seed = 1; seed < 3; ++seed) {
            auto tokens = prompt(1000, n_prompt);  // these begin alike
            tokens.push_back(static_cast<llama_token>(300 + seed));
            const auto tail = prompt(seed, 40);
            tokens.insert(tokens.end(), tail.begin(), tail.end());
            known.push_back({tokens, 20, plain_loop(tokens, 20, 1024)});
        }
    }
    return known;
}

template <typename T, size_t n>
T one_of(const T (&values)[n], random_source & random) {
    return values[random.below(n)];
}

server_params random_params(random_source & random, const temporary_directory & directory) {
    const int n_slots = 1 + static_cast<int>(random.below(5));
    const bool unified = !random.one_in(3);
    // The unified cache may be too small for all of them.
    const int n_ctx = unified && random.one_in(2) ? 700 : 700 * n_slots;
    server_params params = engine_params(n_slots, n_ctx, unified);
    params.common.cache_ram_mib = one_of({0, 1, -1}, random);
    params.common.ctx_shift = random.one_in(4);
    params.common.slot_save_path = directory.text();
    params.common.sleep_idle_seconds = random.one_in(4) ? 1 : -1;
    params.share_prefixes = !random.one_in(4);
    params.step_budget_ms = one_of({-1.0, 0.0, 2.0}, random);
    params.max_queue = one_of({1, 8, 512}, random);
    params.pause_timeout = one_of({0.01, 0.2}, random);
    params.max_paused = one_of({-1, 1}, random);
    params.stream_buffer_bytes = one_of({4096, 1 << 20}, random);
    params.max_stream_bytes = one_of({1 << 17, 1 << 26}, random);
    return params;
}

void run_clients(std::vector<load_client> & clients) {
    std::vector<std::thread> threads;
    std::vector<std::exception_ptr> failures(clients.size());
    for (size_t i = 0; i < clients.size(); ++i) {
        threads.emplace_back([&clients, &failures, i] {
            try {
                for (int n = 0; n < n_actions; ++n) {
                    clients[i].act();
                }
            } catch (...) {
                failures[i] = std::current_exception();
            }
        });
    }
    for (std::thread & each : threads) {
        each.join();
    }
    for (const auto & failure : failures) {
        if (failure) {
            std::rethrow_exception(failure);
        }
    }
}

// Returns how many requests ended.
size_t run_round(uint32_t seed, const std::vector<known_answer> & known) {
    random_source random(seed);
    const temporary_directory directory;
    const server_params params = random_params(random, directory);
    engine target(model::load(params.common), params);
    std::vector<load_client> clients;
    for (uint32_t i = 0; i < n_clients; ++i) {
        clients.emplace_back(target, seed * n_clients + i, known);
    }
    run_clients(clients);
    const bool abrupt = random.one_in(3);
    if (abrupt) {
        target.close();
    }
    size_t n_ended = 0;
    for (load_client & each : clients) {
        each.finish();
        n_ended += each.n_ended();
    }
    const metrics & counted = target.metrics();
    if (!abrupt) {
        wait_until_idle(target);
        CHECK_EQ(counted.n_running.load(), 0);
        if (params.common.sleep_idle_seconds > 0 && random.one_in(2)) {
            while (!target.sleeping()) {
                std::this_thread::yield();
            }
            run_clients(clients);
            for (load_client & each : clients) {
                each.finish();
            }
        }
        target.close();
    }
    CHECK_EQ(counted.n_queued.load(), 0);
    for (const memory_part part : {memory_part::streams, memory_part::parked}) {
        CHECK_EQ(target.budget().used(part), 0u);
    }
    CHECK_EQ(counted.n_finished.load() + counted.n_cancelled.load() + counted.n_failed.load(),
             counted.n_requests.load());
    return n_ended;
}

}  // namespace

TEST(random_load) {
    using clock = std::chrono::steady_clock;
    const auto known = known_answers();
    const uint32_t seconds = number_from("PYLLAMA_LOAD_SECONDS", 0);
    const uint32_t first = number_from("PYLLAMA_LOAD_SEED", 1);
    const auto end = clock::now() + std::chrono::seconds(seconds);
    size_t n_ended = 0;
    for (uint32_t round = 0; seconds > 0 ? clock::now() < end : round < n_rounds; ++round) {
        std::printf("seed %u\n", first + round);  // what a failure is repeated with
        std::fflush(stdout);
        n_ended += run_round(first + round, known);
    }
    std::printf("%zu requests ended\n", n_ended);
}
