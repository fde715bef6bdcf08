// Forced into ggml's amx/mmq.cpp by the build. Up to GCC 13, <immintrin.h> says of ldtilecfg that it reads 8 bytes,
// so the optimiser drops the stores to the other 56 of a local configuration, and the first tile instruction of a
// quantised model ends the process. Here it reads all 64.
#pragma once

#if defined(__GNUC__) && !defined(__clang__) && defined(__AMX_TILE__)
#include <immintrin.h>

#define _tile_loadconfig(config) __asm__ volatile("ldtilecfg %0" : : "m"(*reinterpret_cast<const char (*)[64]>(config)))
#endif
