#include "image_header.h"

#include <random>
#include <string>

#include "check.h"

using namespace pyllama;

namespace {

std::string bytes(std::initializer_list<int> values) {
    std::string text;
    for (const int value : values) {
        text += static_cast<char>(value);
    }
    return text;
}

const std::string png = std::string("\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR", 16) + bytes({0, 0, 1, 2, 0, 0, 0, 7, 8});
const std::string gif = "GIF89a" + bytes({0x2c, 1, 3, 0, 0});

// A comment, a frame of 300 x 7, and so many scans.
std::string jpeg(int n_scans) {
    std::string file = bytes({0xff, 0xd8, 0xff, 0xfe, 0, 4, 'h', 'i'});
    file += bytes({0xff, 0xff, 0xc2, 0, 11, 8, 0, 7, 1, 0x2c, 1, 1, 0x11, 0});
    for (int i = 0; i < n_scans; ++i) {
        file += bytes({0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0, 0xff, 0x00, 5});
    }
    return file;
}

}  // namespace

TEST(formats_are_known_by_their_content) {
    auto found = read_image_header(png);
    CHECK(found && found->format == std::string("PNG") && found->width == 258 && found->height == 7);
    found = read_image_header(gif);
    CHECK(found && found->format == std::string("GIF") && found->width == 300 && found->height == 3);
    found = read_image_header(jpeg(3));
    CHECK(found && found->format == std::string("JPEG") && found->width == 300 && found->height == 7);
    CHECK_EQ(found->n_scans, size_t{3});
    const std::string bmp = "BM" + std::string(12, '\0') + bytes({40, 0, 0, 0, 9, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff});
    found = read_image_header(bmp);
    CHECK(found && found->width == 9 && found->height == 2);
}

TEST(what_is_cut_or_something_else_is_nothing) {
    for (const std::string & file : {std::string(), std::string("BM"), std::string("\xff\xd8\xff"),
                                     std::string("RIFFxxxxWEBPVP8 "), std::string("<svg>"), jpeg(0)}) {
        CHECK(!read_image_header(file));
    }
    for (size_t n = 0; n < 24; ++n) {
        CHECK(!read_image_header(png.substr(0, n)));
    }
    const std::string whole = jpeg(1);
    for (size_t n = 0; n + 13 < whole.size(); ++n) {
        CHECK(!read_image_header(whole.substr(0, n)));
    }
}

TEST(any_bytes_can_be_looked_at) {
    std::mt19937 random(5);
    for (const std::string & start : {png, gif, jpeg(2), std::string("BM")}) {
        for (int i = 0; i < 20000; ++i) {
            std::string file = start;
            file.resize(random() % (start.size() + 8), '\xff');
            for (int k = 0; k < 4 && file.size() > 3; ++k) {
                file[3 + random() % (file.size() - 3)] = static_cast<char>(random() % 256);
            }
            read_image_header(file);
        }
    }
}
