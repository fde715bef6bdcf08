#include "logit_row.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace pyllama {

namespace {

constexpr int32_t block = 64;
constexpr int32_t part = 16;  // of a block, looked at one by one

// Whether any of n values exceeds the threshold; written so that compilers vectorise it.
template <int32_t n>
bool any_above(const float * values, float threshold) {
    int found = 0;
    for (int32_t i = 0; i < n; ++i) {
        found |= values[i] > threshold ? 1 : 0;
    }
    return found != 0;
}

// exp(x) for x <= 0 with a relative error below 3e-7, 0 where it is less than the smallest normal number: std::exp is a
// call for each value, and this is a loop that compilers vectorise. By Cody and Waite: x = n ln 2 + f, and a polynomial
// for exp(f).
float exp_of_negative(float x) {
    constexpr float log2_e = 1.44269504f;
    constexpr float ln2_high = 0.693359375f;
    constexpr float ln2_low = -2.12194440e-4f;
    constexpr float to_integer = 12582912.0f;  // 1.5 * 2^23: adding it rounds
    const float clamped = x > -87.0f ? x : -87.0f;
    const float n = (clamped * log2_e + to_integer) - to_integer;
    const float f = (clamped - n * ln2_high) - n * ln2_low;
    float p = 1.9875691500e-4f;
    p = p * f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    const float mantissa = p * f * f + f + 1.0f;
    const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float scale = 0;
    std::memcpy(&scale, &bits, sizeof scale);
    return mantissa * scale;
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
        if (full && !any_above<block>(row + id, threshold)) {
            continue;
        }
        for (int32_t begin = id; begin < id + block; begin += part) {
            if (full && !any_above<part>(row + begin, threshold)) {
                continue;
            }
            for (int32_t i = begin; i < begin + part; ++i) {
                offer(i);
            }
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
        if (!any_above<block>(row + id, highest)) {
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
    const llama_token best = select_greedy(row, n_vocab);
    const float highest = best == LLAMA_TOKEN_NULL ? -std::numeric_limits<float>::infinity() : row[best];
    if (!std::isfinite(highest)) {
        return highest;
    }
    double sum = 0;
    int32_t id = 0;
    for (; id + block <= n_vocab; id += block) {
        // As many sums as a vector register may have numbers: a single one would be added up in order.
        float sums[part] = {};
        for (int32_t i = 0; i < block; i += part) {
            for (int32_t lane = 0; lane < part; ++lane) {
                sums[lane] += exp_of_negative(row[id + i + lane] - highest);
            }
        }
        for (const float each : sums) {
            sum += static_cast<double>(each);
        }
    }
    for (; id < n_vocab; ++id) {
        sum += static_cast<double>(exp_of_negative(row[id] - highest));
    }
    return highest + static_cast<float>(std::log(sum));
}

}  // namespace pyllama
