// For the tests of samplers: a vocabulary, and a chain that sees the whole of each row, which ours has to equal.
#pragma once

#include <limits>
#include <random>
#include <vector>

#include "backends.h"
#include "check.h"
#include "sampler_chain.h"
#include "slot_sampler.h"

namespace pyllama_test {

constexpr float never = -std::numeric_limits<float>::infinity();

inline const llama_vocab * vocab() {
    static const llama_model_ptr model = [] {
        pyllama::load_backends();
        auto params = llama_model_default_params();
        params.vocab_only = true;
        return llama_model_ptr(llama_model_load_from_file(PYLLAMA_VOCAB_GGUF, params));
    }();
    return llama_model_get_vocab(model.get());
}

inline common_params_sampling seeded(uint32_t seed) {
    common_params_sampling sampling;
    sampling.seed = seed;
    return sampling;
}

inline std::vector<float> random_row(std::mt19937 & random) {
    std::normal_distribution<float> normal(0.0f, 3.0f);
    std::vector<float> row(static_cast<size_t>(llama_vocab_n_tokens(vocab())));
    for (float & value : row) {
        value = normal(random);
    }
    return row;
}

// The possible tokens of a row through llama.cpp's samplers, biases first: what our selection in front has to equal.
class whole_row_sampler {
  public:
    explicit whole_row_sampler(const common_params_sampling & sampling)
        : biases_(sampling.logit_bias), chain_(pyllama::make_sampler_chain(vocab(), sampling)) {}

    llama_token sample(const std::vector<float> & row) {
        std::vector<float> biased = row;
        for (const auto & bias : biases_) {
            biased[static_cast<size_t>(bias.token)] += bias.bias;
        }
        std::vector<llama_token_data> all;
        for (size_t id = 0; id < row.size(); ++id) {
            if (biased[id] > never) {
                all.push_back({static_cast<llama_token>(id), biased[id], 0.0f});
            }
        }
        llama_token_data_array array{all.data(), all.size(), -1, false};
        llama_sampler_apply(chain_.get(), &array);
        return array.data[array.selected].id;
    }

    void accept(llama_token token) { llama_sampler_accept(chain_.get(), token); }

  private:
    std::vector<llama_logit_bias> biases_;
    llama_sampler_ptr chain_;
};

}  // namespace pyllama_test
