#include "thread.h"

#include <pthread.h>
#include <signal.h>
#ifdef __linux__
#include <sched.h>
#include <sys/resource.h>
#endif

#include <atomic>
#include <cstddef>
#include <utility>

#include "check.h"
#include "errors.h"

using namespace pyllama;

namespace {

// Touches about n_bytes of stack, a frame at a time.
size_t use_stack(size_t n_bytes) {
    volatile char frame[4096];
    frame[0] = 1;
    frame[sizeof(frame) - 1] = 1;
    return n_bytes <= sizeof(frame) ? size_t{1} : size_t{1} + use_stack(n_bytes - sizeof(frame)) * frame[0];
}

}  // namespace

TEST(a_thread_runs_its_body_and_joins_once) {
    std::atomic<int> n_runs{0};
    named_thread thread({"counter"}, [&] { n_runs++; });
    CHECK(thread.joinable());
    thread.join();
    CHECK_EQ(n_runs.load(), 1);
    CHECK(!thread.joinable());
    thread.join();
}

TEST(an_empty_thread_has_nothing_to_join) {
    named_thread thread;
    CHECK(!thread.joinable());
    CHECK(!thread.is_current());
    thread.join();
}

TEST(the_destructor_and_an_assignment_join) {
    std::atomic<int> n_runs{0};
    {
        named_thread thread({"first"}, [&] { n_runs++; });
        thread = named_thread({"second"}, [&] { n_runs += 10; });
        CHECK(n_runs.load() % 10 == 1);
        named_thread moved(std::move(thread));
        CHECK(moved.joinable());
    }
    CHECK_EQ(n_runs.load(), 11);
}

TEST(a_thread_knows_itself) {
    std::atomic<bool> inside{false};
    std::atomic<bool> ready{false};
    named_thread thread;
    named_thread started({"self"}, [&] {
        while (!ready) {
        }
        inside = thread.is_current();
    });
    thread = std::move(started);
    CHECK(!thread.is_current());
    ready = true;
    thread.join();
    CHECK(inside.load());
}

TEST(a_large_stack_can_be_used) {
    constexpr size_t n_mib = 1024 * 1024;
    size_t n_frames = 0;
    named_thread thread({"deep", 64 * n_mib}, [&] { n_frames = use_stack(32 * n_mib); });
    thread.join();
    CHECK_EQ(n_frames, 32 * n_mib / 4096);
}

TEST(a_small_stack_is_raised_to_the_systems_least) {
    bool ran = false;
    named_thread thread({"small", 1}, [&] { ran = true; });
    thread.join();
    CHECK(ran);
}

TEST(a_stack_that_no_system_has_is_an_error) {
    const std::string message = CHECK_THROWS(error, named_thread({"impossible", size_t{1} << 62}, [] {}));
    CHECK(message.find("impossible") != std::string::npos);
}

TEST(signals_stay_with_the_thread_that_started_it) {
    sigset_t inside;
    sigset_t before;
    sigset_t after;
    pthread_sigmask(SIG_BLOCK, nullptr, &before);
    named_thread thread({"masked"}, [&] { pthread_sigmask(SIG_BLOCK, nullptr, &inside); });
    thread.join();
    pthread_sigmask(SIG_BLOCK, nullptr, &after);
    for (const int blocked : {SIGINT, SIGTERM, SIGCHLD, SIGUSR1}) {
        CHECK_EQ(sigismember(&inside, blocked), 1);
        CHECK_EQ(sigismember(&after, blocked), sigismember(&before, blocked));
    }
    for (const int open : {SIGSEGV, SIGFPE, SIGABRT}) {
        CHECK_EQ(sigismember(&inside, open), 0);
    }
}

#ifdef __linux__
TEST(a_name_is_cut_to_what_linux_allows) {
    char name[64] = {};
    named_thread thread({"a-name-of-twenty-one"}, [&] { pthread_getname_np(pthread_self(), name, sizeof(name)); });
    thread.join();
    CHECK_EQ(std::string(name), "a-name-of-twent");
}

TEST(a_short_slice_leaves_the_rest_of_the_scheduling_alone) {
    constexpr int reset_on_fork = 0x40000000;  // SCHED_RESET_ON_FORK, which C++ compilers may hide
    const int before = getpriority(PRIO_PROCESS, 0);
    int inside = -1;
    int policy = -1;
    named_thread thread({"short", 0, 100}, [&] {
        inside = getpriority(PRIO_PROCESS, 0);
        policy = sched_getscheduler(0);
    });
    thread.join();
    CHECK_EQ(inside, before);
    CHECK_EQ(policy & ~reset_on_fork, sched_getscheduler(0) & ~reset_on_fork);
    CHECK_EQ(getpriority(PRIO_PROCESS, 0), before);
}
#endif
