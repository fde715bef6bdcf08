// LoRA adapter files. llama.cpp compares the first two dimensions of an adapter's matrices with the model's and trusts
// the rest; what does not fit becomes an assertion when the first graph is built, which ends the process.
#pragma once

#include <string>

#include "llama.h"

namespace pyllama {

// Throws error(model_load) when the file is no LoRA adapter that fits the model. Any thread.
void check_lora_file(const llama_model * model, const std::string & path);

}  // namespace pyllama
