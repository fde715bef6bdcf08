#include "team.h"

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

}  // namespace pyllama
