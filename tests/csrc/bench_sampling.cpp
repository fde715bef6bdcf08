// What choosing a token costs with a vocabulary of 150,000: microseconds, the median, beside llama.cpp's chain on the
// whole row; and what a lazy grammar costs along an answer. Not a test.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "chat_fixture.h"
#include "sampler_chain.h"
#include "slot_sampler.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

constexpr int n_rounds = 200;
using clock_type = std::chrono::steady_clock;

double microseconds(const std::function<void()> & body) {
    const auto begun = clock_type::now();
    body();
    return std::chrono::duration<double, std::micro>(clock_type::now() - begun).count();
}

double median(std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2), values.end());
    return values[values.size() / 2];
}

const llama_vocab * vocab() {
    return qwen3()->vocab();
}

using rows_type = std::vector<std::vector<float>>;

rows_type make_rows(int n_likely) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0.0f, 3.0f);
    rows_type made(16);
    for (auto & each : made) {
        each.resize(static_cast<size_t>(llama_vocab_n_tokens(vocab())));
        for (float & value : each) {
            value = normal(random);
        }
        for (int i = 0; i < n_likely; ++i) {  // what a model would say
            each[random() % each.size()] += 8.0f + static_cast<float>(random() % 1000) / 80.0f;
        }
    }
    return made;
}

void measure(const char * name, const common_params_sampling & sampling, int n_logprobs = -1, bool flat = false) {
    static const rows_type peaked_rows = make_rows(50);
    static const rows_type flat_rows = make_rows(0);
    const rows_type & rows = flat ? flat_rows : peaked_rows;
    generation_params params;
    params.sampling = sampling;
    slot_sampler ours(vocab(), params);
    const llama_sampler_ptr chain = make_sampler_chain(vocab(), sampling);
    std::vector<double> our_times;
    std::vector<double> chain_times;
    std::vector<llama_token_data> all;
    for (int i = 0; i < n_rounds; ++i) {
        const std::vector<float> & row = rows[static_cast<size_t>(i) % rows.size()];
        our_times.push_back(microseconds([&] {
            const llama_token token = ours.sample(row.data());
            if (n_logprobs >= 0) {
                ours.logprobs(row.data(), token, n_logprobs);
            }
            ours.accept(token);
        }));
        chain_times.push_back(microseconds([&] {
            all.resize(row.size());
            for (size_t id = 0; id < all.size(); ++id) {
                all[id] = {static_cast<llama_token>(id), row[id], 0.0f};
            }
            for (const auto & bias : sampling.logit_bias) {
                all[static_cast<size_t>(bias.token)].logit += bias.bias;
            }
            llama_token_data_array array{all.data(), all.size(), -1, false};
            llama_sampler_apply(chain.get(), &array);
            llama_sampler_accept(chain.get(), array.data[array.selected].id);
        }));
    }
    std::printf("%-36s %8.1f us   the whole row %8.1f us\n", name, median(our_times), median(chain_times));
}

void measure_lazy_grammar() {
    generation_params params;
    params.sampling.temp = 0.0f;
    params.sampling.grammar = common_grammar(COMMON_GRAMMAR_TYPE_TOOL_CALLS, "root ::= \"<tool_call>\" [^!]* \"!\"");
    params.sampling.grammar_lazy = true;
    params.sampling.grammar_triggers = {{COMMON_GRAMMAR_TRIGGER_TYPE_WORD, "<tool_call>"}};
    slot_sampler ours(vocab(), params);
    const llama_sampler_ptr theirs = make_grammar_sampler(vocab(), params.sampling);
    const auto tokens = common_tokenize(vocab(), " a word, another one and a third.\n", false, false);
    std::vector<double> our_times;
    std::vector<double> their_times;
    for (size_t i = 0; i < 30'000; ++i) {
        const llama_token token = tokens[i % tokens.size()];
        our_times.push_back(microseconds([&] { ours.accept(token); }));
        their_times.push_back(microseconds([&] { llama_sampler_accept(theirs.get(), token); }));
        if (i + 1 == 100 || i + 1 == 3'000 || i + 1 == 30'000) {
            std::printf("a lazy grammar, token %6zu %18.1f us   told everything %8.1f us\n", i + 1, median(our_times),
                        median(their_times));
            our_times.clear();
            their_times.clear();
        }
    }
}

}  // namespace

TEST(costs) {
    common_params_sampling sampling;
    sampling.seed = 1;
    measure("the default chain", sampling);
    auto changed = sampling;
    changed.temp = 0.0f;
    measure("greedy", changed);
    changed = sampling;
    for (llama_token token = 0; token < 100; ++token) {
        changed.logit_bias.push_back({token * 1000, 1.0f});
    }
    measure("default, 100 logit biases", changed);
    changed = sampling;
    changed.penalty_repeat = 1.1f;
    changed.penalty_present = 0.5f;
    measure("default, penalties over 64 tokens", changed);
    changed.penalty_last_n = 4096;
    measure("default, penalties over 4096 tokens", changed);
    changed = sampling;
    changed.dry_multiplier = 0.8f;
    changed.dry_penalty_last_n = 1024;
    measure("default, DRY over 1024 tokens", changed);
    measure("default, 20 logprobs", sampling, 20);
    auto plain = sampling;  // nothing that drops a token
    plain.top_k = 0;
    plain.top_p = 1.0f;
    plain.min_p = 0.0f;
    measure("temperature alone", plain);
    measure("temperature alone, a flat row", plain, -1, true);
    changed = plain;
    changed.temp = 1.0f;
    measure("nothing but the draw", changed);
    changed = plain;
    changed.min_p = 0.05f;
    measure("min-p first", changed);
    changed.penalty_repeat = 1.1f;
    measure("min-p first, penalties", changed);
    changed = plain;
    changed.top_p = 0.95f;
    measure("top-p first", changed);
    measure("top-p first, a flat row", changed, -1, true);
    changed = sampling;
    changed.mirostat = 2;
    measure("mirostat 2", changed);
    changed.mirostat = 1;
    measure("mirostat 1", changed);
    changed = plain;
    changed.typ_p = 0.9f;
    measure("typical first", changed);
    changed = plain;
    changed.dynatemp_range = 0.5f;
    measure("a range of temperatures first", changed);
    changed = plain;
    changed.top_n_sigma = 1.0f;
    measure("top-n-sigma first", changed);
    changed = plain;
    changed.xtc_probability = 0.5f;
    measure("XTC first", changed);
}

TEST(lazy_grammar) {
    measure_lazy_grammar();
}
