// LoRA adapters as requests use them: which scales they run under. The adapters themselves belong to the model, which
// loads them before any context is made, since llama.cpp walks their list whenever a context reserves its graphs.
//
// Adapters are set on the whole context: a step decodes tokens of one set, and what the KV cache holds was computed
// under one. Any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common.h"
#include "json.h"
#include "llama.h"

namespace pyllama {

// The scale of each adapter of the model, in their order; 0 leaves one out. Null stands for a model without adapters.
using lora_set = std::shared_ptr<const std::vector<float>>;

bool same_set(const lora_set & a, const lora_set & b);

// The scales that the flags give: --lora, --lora-scaled, --lora-init-without-apply.
lora_set initial_lora(const common_params & params);

// A list of {"id", "scale"}: adapters that are not named get 0. Throws error(invalid_request) naming `field`, also for
// an id that no adapter has.
lora_set read_lora(const common_json & list, size_t n_adapters, const std::string & field);

// What GET /lora-adapters answers; `set` gives the scales that hold now.
std::string lora_json(const common_params & params, const lora_set & set);

// Loads the adapters that `params` name, and notes them there. Throws error(model_load), naming the file.
void load_adapters(llama_model * model, common_params & params);

// Sets them on a context, whose thread must be the caller's.
void apply_lora(llama_context * context, const common_params & params, const lora_set & set);

// --control-vector: the flags' vectors, for a context's whole life. Throws error(model_load).
void apply_control_vectors(llama_context * context, const common_params & params);

}  // namespace pyllama
