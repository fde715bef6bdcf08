// The measure of what the engine does with a sequence: a loop over llama_decode, one sequence, no engine, that can run
// under LoRA scales and shift a full context as the engine says it does.
#pragma once

#include <string>
#include <vector>

#include "llama.h"
#include "model.h"

namespace pyllama_test {

struct plain_options {
    int n_ctx = 1024;
    std::vector<float> scales;  // of the model's adapters
    // A full context drops these tokens: see choose_dropped().
    bool shift = false;
    bool recompute = false;  // and decodes what is left anew, instead of moving it
    int n_keep = 0;
    int n_discard = 0;
};

// The greedy answer that never ends by itself, as engine_fixture's answer() gives it.
std::string plain_run(const pyllama::model & source, const std::vector<llama_token> & prompt, int n_predict,
                      const plain_options & options);

}  // namespace pyllama_test
