#include "image_header.h"

#include <cstddef>

namespace pyllama {

namespace {

uint32_t byte_at(std::string_view file, size_t at) {
    return static_cast<unsigned char>(file[at]);
}

uint32_t big_16(std::string_view file, size_t at) {
    return byte_at(file, at) << 8 | byte_at(file, at + 1);
}

uint32_t little_16(std::string_view file, size_t at) {
    return byte_at(file, at + 1) << 8 | byte_at(file, at);
}

uint32_t big_32(std::string_view file, size_t at) {
    return big_16(file, at) << 16 | big_16(file, at + 2);
}

uint32_t little_32(std::string_view file, size_t at) {
    return little_16(file, at + 2) << 16 | little_16(file, at);
}

bool starts_with(std::string_view file, std::string_view magic) {
    return file.substr(0, magic.size()) == magic;
}

std::optional<image_header> read_png(std::string_view file) {
    if (file.size() < 24 || file.substr(12, 4) != "IHDR") {
        return std::nullopt;
    }
    return image_header{"PNG", big_32(file, 16), big_32(file, 20)};
}

std::optional<image_header> read_gif(std::string_view file) {
    if (file.size() < 10) {
        return std::nullopt;
    }
    return image_header{"GIF", little_16(file, 6), little_16(file, 8)};
}

std::optional<image_header> read_bmp(std::string_view file) {
    if (file.size() < 26) {
        return std::nullopt;
    }
    if (little_32(file, 14) == 12) {
        return image_header{"BMP", little_16(file, 18), little_16(file, 20)};
    }
    const uint32_t height = little_32(file, 22);  // negative: from the top
    return image_header{"BMP", little_32(file, 18), height > 0x7fffffff ? 0 - height : height};
}

// Behind the first start of a scan, its marker can only be another one: in a scan's data 0xff is followed by 0.
size_t count_scans(std::string_view file, size_t at) {
    size_t n = 1;
    for (at = file.find("\xff\xda", at + 2); at != std::string_view::npos; at = file.find("\xff\xda", at + 2)) {
        ++n;
    }
    return n;
}

std::optional<image_header> read_jpeg(std::string_view file) {
    image_header found{"JPEG", 0, 0};
    size_t at = 2;
    while (at + 4 <= file.size()) {
        if (byte_at(file, at) != 0xff) {
            ++at;  // what fills the space between two segments
            continue;
        }
        const uint32_t marker = byte_at(file, at + 1);
        if (marker == 0xff || marker == 0 || marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {
            at += marker == 0xff ? 1 : 2;
            continue;
        }
        if (marker == 0xda) {
            found.n_scans = count_scans(file, at);
            return found.width > 0 ? std::optional(found) : std::nullopt;
        }
        const bool is_frame = marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
        if (is_frame) {
            if (at + 9 > file.size() || found.width > 0) {
                return std::nullopt;
            }
            found.height = big_16(file, at + 5);
            found.width = big_16(file, at + 7);
        }
        at += 2 + big_16(file, at + 2);
    }
    return std::nullopt;
}

}  // namespace

std::optional<image_header> read_image_header(std::string_view file) {
    if (starts_with(file, "\x89PNG\r\n\x1a\n")) {
        return read_png(file);
    }
    if (starts_with(file, "\xff\xd8\xff")) {
        return read_jpeg(file);
    }
    if (starts_with(file, "GIF87a") || starts_with(file, "GIF89a")) {
        return read_gif(file);
    }
    if (starts_with(file, "BM")) {
        return read_bmp(file);
    }
    return std::nullopt;
}

}  // namespace pyllama
