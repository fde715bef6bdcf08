// Forced into llama-common's arg.cpp by the build. A flag parser in a library must not end the process, print
// its errors, or load shared libraries from the current directory: exit() becomes an exception, messages go to
// the caller, and the search for backends becomes the package's own loader.
#pragma once

#include <stdio.h>   // NOLINT: both spellings must be declared before the macros below
#include <stdlib.h>  // NOLINT
#include <cstdio>
#include <cstdlib>

#include <string>

#include "ggml-backend.h"

namespace pyllama {

// Thrown instead of exit(code) by the flag parser.
struct cli_exit {
    int code;
};

[[noreturn]] inline void throw_cli_exit(int code) {
    throw cli_exit{code};
}

void load_backends();

// What the parser would have written to stderr on this thread since the last call of take.
void note_cli_message(std::FILE * stream, const char * format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;
std::string take_cli_messages();

}  // namespace pyllama

#ifndef PYLLAMA_NO_EXIT_SHIM_MACROS
#define exit(code) ::pyllama::throw_cli_exit(code)
#define ggml_backend_load_all() ::pyllama::load_backends()
#define fprintf(...) ::pyllama::note_cli_message(__VA_ARGS__)
#endif
