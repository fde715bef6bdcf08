// Runs a loop on the calling thread's OpenMP team: the very workers that ggml uses when the engine thread
// calls it, so that nothing has to be woken. Serial in builds without OpenMP.
#pragma once

#include <cstddef>
#include <functional>

namespace pyllama {

// body(i) for each i below n, on up to n_threads threads. body must not throw.
void parallel_for(size_t n, int n_threads, const std::function<void(size_t)> & body);

}  // namespace pyllama
