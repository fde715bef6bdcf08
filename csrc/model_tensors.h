// A loaded model's tensors by name. llama.cpp keeps that list, but declares it in no public header. Any thread.
#pragma once

#include <cstdint>
#include <string_view>

#include "llama.h"

namespace pyllama {

// nullptr when the model has no such tensor.
const ggml_tensor * find_tensor(const llama_model * model, std::string_view name);

// How many positions a model with learned position embeddings knows; looking further up ends the process. 0 for
// models that compute their positions.
int64_t n_learned_positions(const llama_model * model);

}  // namespace pyllama
