// Sampling parameters as llama-server shows them in /props and /slots. Pure; any thread.
#pragma once

#include <string>

#include "prompt.h"

namespace pyllama {

// A JSON object, UTF-8.
std::string settings_json(const generation_params & params);

}  // namespace pyllama
