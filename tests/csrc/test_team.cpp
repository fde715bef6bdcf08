// The OpenMP team: loops on it, and that its threads do not share a CPU.
#include "team.h"

#include <atomic>
#include <numeric>

#include "check.h"

#if defined(_OPENMP) && defined(__linux__)
#define HAS_TEAM
#include <omp.h>
#include <sched.h>
#endif

using namespace pyllama;

TEST(a_loop_calls_its_body_once_for_each_number) {
    for (const int n_threads : {1, 2, 5}) {
        for (const size_t n : {size_t{0}, size_t{1}, size_t{100}}) {
            std::vector<std::atomic<int>> calls(n);
            parallel_for(n, n_threads, [&](size_t i) { ++calls[i]; });
            CHECK_EQ(std::accumulate(calls.begin(), calls.end(), size_t{0}), n);
            for (const std::atomic<int> & each : calls) {
                CHECK_EQ(each.load(), 1);
            }
        }
    }
}

#ifdef HAS_TEAM

namespace {

cpu_set_t allowed_cpus() {
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    sched_getaffinity(0, sizeof allowed, &allowed);
    return allowed;
}

bool may_use(const cpu_set_t & cpus) {
    const cpu_set_t allowed = allowed_cpus();
    return CPU_EQUAL(&allowed, &cpus);
}

// Whether body(), called on each thread of the team, was true on all of them.
bool on_each(int n_threads, const std::function<bool()> & body) {
    std::atomic<int> n{0};
#pragma omp parallel num_threads(n_threads)
    n += body() ? 1 : 0;
    return n == n_threads;
}

bool allow(const cpu_set_t & cpus) {
    return sched_setaffinity(0, sizeof cpus, &cpus) == 0;
}

}  // namespace

TEST(a_thread_leaves_the_cpus_that_others_have) {
    const cpu_set_t before = allowed_cpus();
    const int here = sched_getcpu();
    const bool may_leave = CPU_COUNT(&before) > 1;
    CHECK_EQ(leave_cpus({-1, here}), may_leave);
    // What moves it back at once is another process, and not for long.
    for (int attempt = 0; may_leave && sched_getcpu() == here && attempt < 1000; ++attempt) {
        leave_cpus({here});
    }
    CHECK_EQ(sched_getcpu() != here, may_leave);
    CHECK(may_use(before));

    std::vector<int> all(CPU_SETSIZE);
    std::iota(all.begin(), all.end(), 0);
    CHECK(!leave_cpus(all));
    CHECK(may_use(before));
}

TEST(threads_that_woke_on_one_cpu_are_moved_apart) {
    const cpu_set_t before = allowed_cpus();
    const bool may_part = CPU_COUNT(&before) > 1;
    // The scheduler may part them first, but not each time.
    int n_moved = 0;
    for (int attempt = 0; n_moved == 0 && attempt < (may_part ? 1000 : 10); ++attempt) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(static_cast<size_t>(sched_getcpu()), &one);
        CHECK(on_each(2, [&] { return allow(one) && allow(before); }));
        n_moved = spread_team(2);
    }
    CHECK_EQ(n_moved, may_part ? 1 : 0);
}

TEST(a_team_is_spread_within_what_it_may_use) {
    const cpu_set_t before = allowed_cpus();
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(sched_getcpu()), &one);
    for (const int n_threads : {1, 2, 4}) {
        spread_team(n_threads);
        // All of them on one CPU, first because they woke there, then because they may use no other.
        CHECK(on_each(n_threads, [&] { return allow(one) && allow(before); }));
        spread_team(n_threads);
        CHECK(on_each(n_threads, [&] { return may_use(before) && allow(one); }));
        CHECK_EQ(spread_team(n_threads), 0);
        CHECK(on_each(n_threads, [&] { return may_use(one) && allow(before); }));
    }
}

#endif
