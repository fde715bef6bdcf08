// The bundled model with adapters of random numbers: each changes what it says, and the same way each time.
#pragma once

#include <memory>
#include <string>

#include "model.h"

namespace pyllama_test {

// Writes a LoRA adapter for the bundled model. strength: how far it moves what a layer puts out.
void write_adapter(const std::string & path, uint32_t seed, float strength);

// The bundled model with n such adapters, scale 0 each.
std::shared_ptr<const pyllama::model> model_with_adapters(size_t n);

}  // namespace pyllama_test
