// Included in front of mtmd's mtmd-helper.cpp, which has the decoders of images: they get the formats that
// image_header.h knows, and no more memory at once than the largest image that it lets through needs. A file that
// unpacks to more than it says fails to decode then.
#pragma once

#include <cstddef>
#include <cstdlib>

#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_GIF
#define STBI_ONLY_BMP
#define STBI_NO_FAILURE_STRINGS
#define STBI_MAX_DIMENSIONS (1 << 16)

namespace pyllama_image {

// image_limits::n_pixels, four channels of 16 bits, and a byte for each line.
constexpr std::size_t most_at_once = (std::size_t{1} << 28) + (std::size_t{1} << 20);

inline void * allocate(std::size_t size) {
    return size <= most_at_once ? std::malloc(size) : nullptr;
}

inline void * reallocate(void * old, std::size_t size) {
    return size <= most_at_once ? std::realloc(old, size) : nullptr;
}

}  // namespace pyllama_image

#define STBI_MALLOC(size) pyllama_image::allocate(size)
#define STBI_REALLOC(old, size) pyllama_image::reallocate(old, size)
#define STBI_FREE(old) std::free(old)
