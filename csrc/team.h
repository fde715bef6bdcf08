// The calling thread's OpenMP team: the very workers that ggml uses when the engine thread calls it, so that nothing
// has to be woken for a loop between two decodes. Nothing and serial in builds without OpenMP.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

namespace pyllama {

// body(i) for each i below n, on up to n_threads threads. body must not throw.
void parallel_for(size_t n, int n_threads, const std::function<void(size_t)> & body);

// Wakes a team that has slept, and moves threads that woke on one CPU apart. The scheduler puts a woken worker behind
// the thread that woke it when the other CPUs have something short to do at that moment. Both spin at ggml's barriers
// then, for a whole time slice each, until it looks again some ten milliseconds later. Returns how many it moved; none
// elsewhere than on Linux.
int spread_team(int n_threads);

// Moves the calling thread to a CPU that is not among these. False where its affinity, which stays as it is, allows no
// other, or a thread cannot be moved.
bool leave_cpus(const std::vector<int> & taken);

}  // namespace pyllama
