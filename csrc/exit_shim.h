// Forced into llama-common's arg.cpp by the build. A flag parser in a library must neither end the process
// nor load shared libraries from the current directory: exit() becomes an exception, and the search for
// backends becomes the package's own loader.
#pragma once

#include <cstdlib>
#include <stdlib.h>  // NOLINT: both spellings must be declared before the macro below

#include "ggml-backend.h"

namespace pyllama {

// Thrown instead of exit(code) by the flag parser. What it printed is on stdout or stderr.
struct cli_exit {
    int code;
};

[[noreturn]] inline void throw_cli_exit(int code) { throw cli_exit{code}; }

void load_backends();

}  // namespace pyllama

#ifndef PYLLAMA_NO_EXIT_MACRO
#define exit(code) ::pyllama::throw_cli_exit(code)
#define ggml_backend_load_all() ::pyllama::load_backends()
#endif
