#include "team.h"

#if defined(_OPENMP) && defined(__linux__)
#define PYLLAMA_SPREADS_TEAM
#include <omp.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#endif

namespace pyllama {

void parallel_for(size_t n, int n_threads, const std::function<void(size_t)> & body) {
#ifdef _OPENMP
    // Always the full team: a team of another size would make libgomp build a new one, and ggml then another.
    if (n_threads > 1 && n > 1) {
        const auto count = static_cast<std::ptrdiff_t>(n);
#pragma omp parallel for num_threads(n_threads) schedule(dynamic, 1)
        for (std::ptrdiff_t i = 0; i < count; ++i) {
            body(static_cast<size_t>(i));
        }
        return;
    }
#else
    (void)n_threads;
#endif
    for (size_t i = 0; i < n; ++i) {
        body(i);
    }
}

#ifdef PYLLAMA_SPREADS_TEAM

namespace {

// On which CPU each thread of a team is.
class roll_call {
  public:
    explicit roll_call(int n_threads) : cpus_(static_cast<size_t>(n_threads)) {
        for (std::atomic<int> & cpu : cpus_) {
            cpu = -1;
        }
    }

    bool complete() const { return n_here_ == cpus_.size(); }

    void answer(int thread) {
        cpus_[static_cast<size_t>(thread)] = sched_getcpu();
        ++n_here_;
    }

    bool shares_its_cpu(int thread) const {
        const int mine = cpus_[static_cast<size_t>(thread)];
        size_t n = 0;
        for (const std::atomic<int> & cpu : cpus_) {
            n += cpu == mine ? 1 : 0;
        }
        return n > 1;
    }

    std::vector<int> cpus() const { return {cpus_.begin(), cpus_.end()}; }

  private:
    std::vector<std::atomic<int>> cpus_;
    std::atomic<size_t> n_here_{0};
};

// A worker needs some ten microseconds to come. On a busy machine a stranger's turn may be in between.
constexpr std::chrono::microseconds patience{200};

}  // namespace

bool leave_cpus(const std::vector<int> & taken) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        return false;  // more CPUs than the set has room for
    }
    cpu_set_t free = allowed;
    for (const int cpu : taken) {
        if (cpu >= 0 && cpu < CPU_SETSIZE) {
            CPU_CLR(static_cast<size_t>(cpu), &free);
        }
    }
    // The call returns on one of these CPUs.
    if (CPU_COUNT(&free) == 0 || sched_setaffinity(0, sizeof free, &free) != 0) {
        return false;
    }
    sched_setaffinity(0, sizeof allowed, &allowed);
    return true;
}

int spread_team(int n_threads) {
    if (n_threads < 2) {
        return 0;
    }
    roll_call team(n_threads);
    std::atomic<int> n_moved{0};
#pragma omp parallel num_threads(n_threads)
    {
        const int thread = omp_get_thread_num();
        team.answer(thread);
        if (thread > 0) {
            if (team.shares_its_cpu(thread) && leave_cpus(team.cpus())) {
                ++n_moved;
            }
        } else {
            // Who waits for this CPU gets it, and is gone in a moment.
            const auto end = std::chrono::steady_clock::now() + patience;
            while (!team.complete() && std::chrono::steady_clock::now() < end) {
                sched_yield();
            }
        }
    }
    return n_moved;
}

#else

bool leave_cpus(const std::vector<int> &) {
    return false;
}

int spread_team(int) {
    return 0;
}

#endif

}  // namespace pyllama
