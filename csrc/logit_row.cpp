#include "logit_row.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace pyllama {

namespace {

constexpr int32_t block = 64;

// Whether any of the block's values exceeds the threshold; written so that compilers vectorise it.
bool any_above(const float * values, float threshold) {
    int found = 0;
    for (int32_t i = 0; i < block; ++i) {
        found |= values[i] > threshold ? 1 : 0;
    }
    return found != 0;
}

}  // namespace

void select_top_k(const float * row, int32_t n_vocab, int32_t k, std::vector<llama_token_data> & out) {
    out.clear();
    if (k <= 0) {
        return;
    }
    const size_t wanted = static_cast<size_t>(k);
    // Candidates pile up to twice k; then all but the best k are dropped and the threshold rises.
    const size_t most = wanted * 2 + block;
    float threshold = -std::numeric_limits<float>::infinity();
    bool full = false;

    const auto shrink = [&] {
        std::nth_element(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(wanted) - 1, out.end(), larger);
        out.resize(wanted);
        threshold = out.back().logit;
        full = true;
    };
    const auto offer = [&](int32_t id) {
        const float logit = row[id];
        if (full ? logit > threshold : logit >= threshold) {
            out.push_back({id, logit, 0.0f});
            if (out.size() >= most) {
                shrink();
            }
        }
    };

    int32_t id = 0;
    for (; id + block <= n_vocab; id += block) {
        if (full && !any_above(row + id, threshold)) {
            continue;
        }
        for (int32_t i = 0; i < block; ++i) {
            offer(id + i);
        }
    }
    for (; id < n_vocab; ++id) {
        offer(id);
    }
    if (out.size() > wanted) {
        shrink();
    }
    std::sort(out.begin(), out.end(), larger);
}

llama_token select_greedy(const float * row, int32_t n_vocab) {
    llama_token best = LLAMA_TOKEN_NULL;
    float highest = -std::numeric_limits<float>::infinity();
    int32_t id = 0;
    for (; id < n_vocab && best == LLAMA_TOKEN_NULL; ++id) {
        if (!std::isnan(row[id])) {
            best = id;
            highest = row[id];
        }
    }
    for (; id + block <= n_vocab; id += block) {
        if (!any_above(row + id, highest)) {
            continue;
        }
        for (int32_t i = id; i < id + block; ++i) {
            if (row[i] > highest) {
                highest = row[i];
                best = i;
            }
        }
    }
    for (; id < n_vocab; ++id) {
        if (row[id] > highest) {
            highest = row[id];
            best = id;
        }
    }
    return best;
}

float log_sum_exp(const float * row, int32_t n_vocab) {
    float highest = -std::numeric_limits<float>::infinity();
    for (int32_t i = 0; i < n_vocab; ++i) {
        highest = std::max(highest, row[i]);
    }
    if (!std::isfinite(highest)) {
        return highest;
    }
    double sum = 0;
    for (int32_t i = 0; i < n_vocab; ++i) {
        sum += std::exp(row[i] - highest);
    }
    return highest + static_cast<float>(std::log(sum));
}

}  // namespace pyllama
