#include "row_selection.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "logit_row.h"
#include "row_scan.h"

namespace pyllama {

namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

// A term below 2^-25 of a sum in single precision leaves it as it is: exp(-17.33).
constexpr double unfelt = -17.5;

// The sum of exp(logit - highest) as a loop over the row adds it up in single precision.
PYLLAMA_EACH_WIDTH
float sum_in_order(const float * row, int32_t n_vocab, float highest) {
    float sum = 0.0f;
    float threshold = minus_infinity;
    const bool skips = std::fabs(highest) < 1e5f;  // beyond that the threshold itself is too coarse
    each_above(
        row, n_vocab, [&] { return threshold; },
        [&](int32_t id) {
            const float term = std::exp(row[id] - highest);
            sum += term;
            // Only a term of some size moves the threshold by enough to be worth a logarithm.
            if (skips && term > sum * 0.25f) {
                threshold =
                    static_cast<float>(static_cast<double>(highest) + std::log(static_cast<double>(sum)) + unfelt);
            }
        });
    return sum;
}

struct sort_entry {
    uint32_t key;
    int32_t id;
};

// Keys ascend where logits descend.
uint32_t key_of(float logit) {
    uint32_t bits = 0;
    std::memcpy(&bits, &logit, sizeof bits);
    return (bits >> 31) != 0 ? bits : ~bits & 0x7fffffffu;
}

struct row_moments {
    double n;  // of the logits above -infinity
    double mean;
    double variance;
};

PYLLAMA_EACH_WIDTH
row_moments moments_of(const float * row, int32_t n_vocab, float highest) {
    double sums[row_part] = {};
    double squares[row_part] = {};
    double counts[row_part] = {};
    const auto add = [&](int32_t lane, float logit) {
        const double below = logit > minus_infinity ? static_cast<double>(logit) - static_cast<double>(highest) : 0.0;
        sums[lane] += below;
        squares[lane] += below * below;
        counts[lane] += logit > minus_infinity ? 1.0 : 0.0;
    };
    int32_t id = 0;
    for (; id + row_part <= n_vocab; id += row_part) {
        for (int32_t lane = 0; lane < row_part; ++lane) {
            add(lane, row[id + lane]);
        }
    }
    for (; id < n_vocab; ++id) {
        add(0, row[id]);
    }
    const auto total = [](const double (&lanes)[row_part]) { return std::accumulate(lanes, lanes + row_part, 0.0); };
    const double n = total(counts);
    const double mean = total(sums) / n;
    return {n, mean + static_cast<double>(highest), std::max(total(squares) / n - mean * mean, 0.0)};
}

// The threshold as loops over the row in single precision come to it.
float sigma_threshold_in_order(const float * row, int32_t n_vocab, float highest, float n_sigmas) {
    float sum = 0.0f;
    int32_t n = 0;
    for (int32_t id = 0; id < n_vocab; ++id) {
        if (row[id] > minus_infinity) {
            sum += row[id];
            ++n;
        }
    }
    const float mean = sum / static_cast<float>(n);
    float squares = 0.0f;
    for (int32_t id = 0; id < n_vocab; ++id) {
        if (row[id] > minus_infinity) {
            const auto off = static_cast<double>(row[id] - mean);
            squares = static_cast<float>(static_cast<double>(squares) + off * off);
        }
    }
    return highest - n_sigmas * std::sqrt(squares / static_cast<float>(n));
}

// How many of the largest logits reach p, or more than there are.
size_t n_reaching(const std::vector<llama_token_data> & sorted, float highest, float sum, float p, size_t min_keep,
                  float & reached, size_t from) {
    for (size_t i = from; i < sorted.size(); ++i) {
        reached += std::exp(sorted[i].logit - highest) / sum;
        if (reached >= p && i + 1 >= min_keep) {
            return i + 1;
        }
    }
    return sorted.size() + 1;
}

}  // namespace

void sort_row(const float * row, int32_t n_vocab, std::vector<llama_token_data> & out) {
    constexpr int n_bits = 11;
    constexpr size_t n_digits = size_t{1} << n_bits;
    std::vector<sort_entry> entries;
    entries.reserve(static_cast<size_t>(n_vocab));
    std::array<std::array<uint32_t, n_digits>, 3> counts{};
    for (int32_t id = 0; id < n_vocab; ++id) {
        if (row[id] > minus_infinity) {
            const uint32_t key = key_of(row[id]);
            entries.push_back({key, id});
            for (size_t pass = 0; pass < counts.size(); ++pass) {
                ++counts[pass][(key >> (n_bits * pass)) % n_digits];
            }
        }
    }
    std::vector<sort_entry> sorted(entries.size());
    for (size_t pass = 0; pass < counts.size(); ++pass) {
        uint32_t begin = 0;
        for (uint32_t & count : counts[pass]) {
            begin += count;
            count = begin - count;
        }
        for (const sort_entry & entry : entries) {
            sorted[counts[pass][(entry.key >> (n_bits * pass)) % n_digits]++] = entry;
        }
        entries.swap(sorted);
    }
    out.clear();
    for (const sort_entry & entry : entries) {
        out.push_back({entry.id, row[entry.id], 0.0f});
    }
}

PYLLAMA_EACH_WIDTH
void select_from(const float * row, int32_t n_vocab, float lowest, std::vector<llama_token_data> & out) {
    out.clear();
    const float below = std::nextafter(lowest, minus_infinity);
    each_above(row, n_vocab, [&] { return below; }, [&](int32_t id) { out.push_back({id, row[id], 0.0f}); });
}

void select_min_p(const float * row, int32_t n_vocab, float p, std::vector<llama_token_data> & out) {
    select_from(row, n_vocab, largest(row, n_vocab) + std::log(p), out);
}

bool select_sigmas(const float * row, int32_t n_vocab, float n_sigmas, std::vector<llama_token_data> & out) {
    constexpr double ulp = 1.0 / (1 << 23);
    const float highest = largest(row, n_vocab);
    const row_moments m = moments_of(row, n_vocab, highest);
    if (!(m.n * (m.variance + m.mean * m.mean) < 1e37)) {
        return false;  // a sum of single precision would overflow
    }
    // Sums of n numbers in single precision are off by no more than n roundings of what they sum up.
    const double off = m.n * ulp / 2 / (1 - std::min(m.n * ulp / 2, 0.5)) + 4 * ulp;
    const double mean_off = off * std::sqrt(m.variance + m.mean * m.mean);
    const double slack = 4 * ulp * (std::fabs(static_cast<double>(highest)) + n_sigmas * std::sqrt(m.variance));
    const double least = std::sqrt(m.variance * std::max(1 - off, 0.0)) * (1 - ulp);
    const double most = std::sqrt((m.variance + mean_off * mean_off) * (1 + off)) * (1 + ulp);
    const double from = highest - n_sigmas * most - slack;
    const double to = highest - n_sigmas * least + slack;
    select_from(row, n_vocab, static_cast<float>(from), out);
    const auto below = [&](double threshold) {
        return [threshold](const llama_token_data & c) { return static_cast<double>(c.logit) < threshold; };
    };
    if (std::any_of(out.begin(), out.end(), below(to))) {
        const float threshold = sigma_threshold_in_order(row, n_vocab, highest, n_sigmas);
        out.erase(std::remove_if(out.begin(), out.end(), below(threshold)), out.end());
    }
    return true;
}

void select_top_p(const float * row, int32_t n_vocab, float p, size_t min_keep, std::vector<llama_token_data> & out) {
    constexpr int32_t n_first = 256;
    const float highest = largest(row, n_vocab);
    const float sum = sum_in_order(row, n_vocab, highest);
    select_top_k(row, n_vocab, n_first, out);
    out.erase(std::find_if(out.begin(), out.end(), [](const auto & c) { return c.logit == minus_infinity; }),
              out.end());
    float reached = 0.0f;
    size_t n = n_reaching(out, highest, sum, p, min_keep, reached, 0);
    if (n > out.size() && out.size() == n_first) {
        sort_row(row, n_vocab, out);
        n = n_reaching(out, highest, sum, p, min_keep, reached, n_first);
    }
    out.resize(std::min(n, out.size()));
}

void select_surprise(const float * row, int32_t n_vocab, float surprise, std::vector<llama_token_data> & out) {
    constexpr size_t n_quickly_sorted = 4096;
    // No probability is above exp(logit - highest), as the sum begins with exp(0).
    const double lowest = std::min(unfelt, -static_cast<double>(surprise) * std::log(2.0) - 0.1);
    const float highest = largest(row, n_vocab);
    select_from(row, n_vocab, static_cast<float>(static_cast<double>(highest) + lowest), out);
    const size_t n = out.size();
    if (n > n_quickly_sorted) {
        sort_row(row, n_vocab, out);
        out.resize(n);
    } else {
        std::sort(out.begin(), out.end(), larger);
    }
}

PYLLAMA_EACH_WIDTH
llama_token draw_from(const float * row, int32_t n_vocab, double u, std::vector<double> & block_sums) {
    const float highest = largest(row, n_vocab);
    if (!std::isfinite(highest)) {
        return LLAMA_TOKEN_NULL;
    }
    block_sums.clear();
    double sum = 0;
    for (int32_t begin = 0; begin < n_vocab; begin += row_block) {
        block_sums.push_back(sum_of_exp(row + begin, std::min(row_block, n_vocab - begin), highest));
        sum += block_sums.back();
    }
    // Both sums, up to the token and of all, differ from llama.cpp's by less than 1e-6 of the whole each.
    const double margin = 2e-6 * sum;
    const double target = sum * u;
    double reached = 0;
    size_t block = 0;
    while (block + 1 < block_sums.size() && reached + block_sums[block] < target) {
        reached += block_sums[block++];
    }
    const auto begin = static_cast<int32_t>(block) * row_block;
    for (int32_t id = begin; id < std::min(begin + row_block, n_vocab); ++id) {
        const double before = reached;
        reached += static_cast<double>(exp_of_negative(row[id] - highest));
        if (reached >= target) {
            return before + margin < target && target < reached - margin ? id : LLAMA_TOKEN_NULL;
        }
    }
    return LLAMA_TOKEN_NULL;
}

}  // namespace pyllama
