// Loads ggml's backends, once per process, from the folder that holds our own libraries and nowhere else.
// Any thread may call.
#pragma once

#include <string>

namespace pyllama {

// Loads every backend plug-in beside libpyllama-ggml. Does nothing when backends are registered already,
// as they are in a native build, where ggml-cpu is linked.
void load_backends();

// The folder that is searched: that of libpyllama-ggml itself, also in an editable install.
std::string backend_folder();

}  // namespace pyllama
