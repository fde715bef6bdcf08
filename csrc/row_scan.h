// The loops over a row of logits that compilers vectorise; the files that use them are compiled so that comparing
// numbers need not trap, and that no two CPUs round differently. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <cstring>

namespace pyllama {

// A function compiled for each width of vector registers; the dynamic loader picks the widest that the CPU has. The
// sanitizers' runtimes are not there yet when it does.
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && !defined(PYLLAMA_SANITIZED)
#define PYLLAMA_EACH_WIDTH __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define PYLLAMA_EACH_WIDTH
#endif

constexpr int32_t row_block = 64;
constexpr int32_t row_part = 16;  // of a block, looked at one by one

// Whether any of n values exceeds the threshold.
template <int32_t n>
inline bool any_above(const float * values, float threshold) {
    int found = 0;
    for (int32_t i = 0; i < n; ++i) {
        found |= values[i] > threshold ? 1 : 0;
    }
    return found != 0;
}

// Calls visit(i) for each value above threshold(), in order. The threshold may rise, not fall.
template <typename Threshold, typename Visit>
inline void each_above(const float * row, int32_t n, const Threshold & threshold, const Visit & visit) {
    int32_t i = 0;
    for (; i + row_block <= n; i += row_block) {
        if (!any_above<row_block>(row + i, threshold())) {
            continue;
        }
        for (int32_t begin = i; begin < i + row_block; begin += row_part) {
            if (!any_above<row_part>(row + begin, threshold())) {
                continue;
            }
            for (int32_t at = begin; at < begin + row_part; ++at) {
                if (row[at] > threshold()) {
                    visit(at);
                }
            }
        }
    }
    for (; i < n; ++i) {
        if (row[i] > threshold()) {
            visit(i);
        }
    }
}

// exp(x) for x <= 0 with a relative error below 3e-7; less than 2e-38 where x is below -87 or NaN: std::exp is a call
// for each value. By Cody and Waite: x = n ln 2 + f, and a polynomial for exp(f).
inline float exp_of_negative(float x) {
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

// The sum of exp(value - highest) over n values, row_block at most. Relative error below 9e-7.
inline double sum_of_exp(const float * values, int32_t n, float highest) {
    double sum = 0;
    if (n == row_block) {
        // As many sums as a vector register may have numbers: a single one would be added up in order.
        float sums[row_part] = {};
        for (int32_t i = 0; i < row_block; i += row_part) {
            for (int32_t lane = 0; lane < row_part; ++lane) {
                sums[lane] += exp_of_negative(values[i + lane] - highest);
            }
        }
        for (int32_t half = row_part / 2; half > 1; half /= 2) {
            for (int32_t lane = 0; lane < half; ++lane) {
                sums[lane] += sums[lane + half];
            }
        }
        return static_cast<double>(sums[0]) + static_cast<double>(sums[1]);
    }
    for (int32_t i = 0; i < n; ++i) {
        sum += static_cast<double>(exp_of_negative(values[i] - highest));
    }
    return sum;
}

}  // namespace pyllama
