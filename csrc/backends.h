// Loads ggml's backends, once per process, from the folder that holds our own libraries and nowhere else.
// Any thread may call.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace pyllama {

// Loads every backend plug-in of backend_folders(). Does nothing when backends are registered already,
// as they are in a native build, where ggml-cpu is linked.
void load_backends();

// The folders that are searched: below that of libpyllama-ggml itself, also in an editable install, the one named after
// llama.cpp's tag, where plug-ins from packages of their own lie, and then that folder. ggml checks the version of its
// interface only: a plug-in that was built from another llama.cpp lies in a folder of another name, and is never
// loaded.
std::vector<std::string> backend_folders();

// The file name of the library that a registered backend is in, or "" where that cannot be told.
std::string backend_library(size_t index);

}  // namespace pyllama
