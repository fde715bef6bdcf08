#include "plain_run.h"

#include <algorithm>
#include <cmath>

#include "check.h"
#include "llama-cpp.h"
#include "logit_row.h"
#include "lora.h"

namespace pyllama_test {

namespace {

// Where two tokens are nearer to each other than this, kernels that differ by batch shape could choose differently.
constexpr float least_margin = 2e-3f;

llama_token choose(const pyllama::model & source, const float * row) {
    std::vector<float> masked(row, row + source.n_vocab());
    for (llama_token token = 0; token < source.n_vocab(); ++token) {
        if (llama_vocab_is_eog(source.vocab(), token)) {
            masked[static_cast<size_t>(token)] = -INFINITY;
        }
    }
    const llama_token chosen = pyllama::select_greedy(masked.data(), static_cast<int32_t>(masked.size()));
    const float best = masked[static_cast<size_t>(chosen)];
    masked[static_cast<size_t>(chosen)] = -INFINITY;
    CHECK(best - *std::max_element(masked.begin(), masked.end()) > least_margin);
    return chosen;
}

}  // namespace

std::string plain_run(const pyllama::model & source, const std::vector<llama_token> & prompt, int n_predict,
                      const plain_options & options) {
    auto params = llama_context_default_params();
    params.n_ctx = static_cast<uint32_t>(options.n_ctx);
    params.n_batch = params.n_ubatch = 512;
    params.n_threads = params.n_threads_batch = 1;
    const llama_context_ptr context(llama_init_from_model(source.handle(), params));
    llama_memory_t memory = llama_get_memory(context.get());
    if (!options.scales.empty()) {
        pyllama::apply_lora(context.get(), source.params(), std::make_shared<const std::vector<float>>(options.scales));
    }
    std::vector<llama_token> tokens = prompt;
    size_t n_decoded = 0;
    std::string text;
    for (int i = 0; i < n_predict; ++i) {
        if (options.shift && static_cast<int>(tokens.size()) >= options.n_ctx) {
            const int n_left = static_cast<int>(n_decoded) - options.n_keep;
            const int n = options.n_discard > 0 ? std::min(options.n_discard, n_left - 1) : n_left / 2;
            const int end = options.n_keep + n;
            tokens.erase(tokens.begin() + options.n_keep, tokens.begin() + end);
            if (options.recompute) {
                llama_memory_clear(memory, true);
                n_decoded = 0;
            } else {
                llama_memory_seq_rm(memory, 0, options.n_keep, end);
                llama_memory_seq_add(memory, 0, end, -1, -n);
                n_decoded -= static_cast<size_t>(n);
            }
        }
        const auto n_next = static_cast<int32_t>(tokens.size() - n_decoded);
        CHECK_EQ(llama_decode(context.get(), llama_batch_get_one(tokens.data() + n_decoded, n_next)), 0);
        n_decoded = tokens.size();
        tokens.push_back(choose(source, llama_get_logits_ith(context.get(), -1)));
        text += std::to_string(tokens.back()) + " ";
    }
    return text + "length";
}

}  // namespace pyllama_test
