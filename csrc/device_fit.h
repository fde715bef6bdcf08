// Fits what the user left open (layers on the GPU, context size) to the memory of the devices.
#pragma once

#include "common.h"

namespace pyllama {

// Does nothing without a GPU, with -fit off, or where the flags leave nothing open. Reads the model's metadata;
// one at a time per process, because llama-common redirects llama.cpp's log meanwhile.
void fit_to_devices(common_params & params);

}  // namespace pyllama
