#include "logit_row.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "row_scan.h"

namespace pyllama {

PYLLAMA_EACH_WIDTH
float largest(const float * row, int32_t n_vocab) {
    constexpr float lowest = -std::numeric_limits<float>::infinity();
    float lanes[row_part];
    for (float & lane : lanes) {
        lane = lowest;
    }
    int32_t id = 0;
    for (; id + row_part <= n_vocab; id += row_part) {
        for (int32_t lane = 0; lane < row_part; ++lane) {
            lanes[lane] = row[id + lane] > lanes[lane] ? row[id + lane] : lanes[lane];
        }
    }
    float highest = lowest;
    for (; id < n_vocab; ++id) {
        highest = row[id] > highest ? row[id] : highest;
    }
    for (const float lane : lanes) {
        highest = lane > highest ? lane : highest;
    }
    return highest;
}

PYLLAMA_EACH_WIDTH
void select_top_k(const float * row, int32_t n_vocab, int32_t k, std::vector<llama_token_data> & out) {
    out.clear();
    if (k <= 0) {
        return;
    }
    const size_t wanted = static_cast<size_t>(k);
    // Candidates pile up to twice k; then all but the best k are dropped and the threshold rises.
    const size_t most = wanted * 2 + row_block;
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
    for (; id + row_block <= n_vocab; id += row_block) {
        if (full && !any_above<row_block>(row + id, threshold)) {
            continue;
        }
        for (int32_t begin = id; begin < id + row_block; begin += row_part) {
            if (full && !any_above<row_part>(row + begin, threshold)) {
                continue;
            }
            for (int32_t i = begin; i < begin + row_part; ++i) {
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

PYLLAMA_EACH_WIDTH
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
    for (; id + row_block <= n_vocab; id += row_block) {
        if (!any_above<row_block>(row + id, highest)) {
            continue;
        }
        for (int32_t i = id; i < id + row_block; ++i) {
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

PYLLAMA_EACH_WIDTH
float log_sum_exp(const float * row, int32_t n_vocab) {
    const llama_token best = select_greedy(row, n_vocab);
    const float highest = best == LLAMA_TOKEN_NULL ? -std::numeric_limits<float>::infinity() : row[best];
    if (!std::isfinite(highest)) {
        return highest;
    }
    double sum = 0;
    for (int32_t id = 0; id < n_vocab; id += row_block) {
        sum += sum_of_exp(row + id, std::min(row_block, n_vocab - id), highest);
    }
    return highest + static_cast<float>(std::log(sum));
}

}  // namespace pyllama
