// What an image file says of itself before it is decoded. It is a client's: what would take too much memory or time to
// decode is refused by this. Pure, any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace pyllama {

struct image_limits {
    static constexpr uint64_t n_pixels = uint64_t{1} << 25;  // 33.5 million
    static constexpr uint32_t side = 1 << 16;
    static constexpr uint32_t aspect = 200;  // the longer side over the shorter one
    static constexpr size_t n_scans = 100;   // of a progressive JPEG, each of which passes all blocks
};

struct image_header {
    const char * format = "";
    uint32_t width = 0;
    uint32_t height = 0;
    size_t n_scans = 1;
};

// Of a JPEG, a PNG, a GIF or a BMP; nothing for other files, and for those that are cut in their header.
std::optional<image_header> read_image_header(std::string_view file);

}  // namespace pyllama
