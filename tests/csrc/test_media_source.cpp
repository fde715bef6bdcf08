#include "media_source.h"

#include "check.h"
#include "errors.h"

using namespace pyllama;

TEST(base64_is_read_strictly) {
    CHECK(decode_base64("") == std::string());
    CHECK(decode_base64("Zg==") == std::string("f"));
    CHECK(decode_base64("Zg") == std::string("f"));
    CHECK(decode_base64("Zm8=") == std::string("fo"));
    CHECK(decode_base64("Zm9vYmFy") == std::string("foobar"));
    CHECK(decode_base64("+/+/") == std::string("\xfb\xff\xbf"));
    for (const char * text : {"Z", "Zm9vY", "Zm9 ", "Zm9\n", "Zm-_", "Zg==Zg==", "http", "é"}) {
        const bool valid = std::string(text) == "http";
        CHECK_EQ(decode_base64(text).has_value(), valid);
    }
}

TEST(files_of_one_prompt_are_limited) {
    std::vector<media_file> files;
    for (size_t i = 0; i < media_limits::n_files; ++i) {
        add_media({"x", "a"}, files);
    }
    bool refused = false;
    try {
        add_media({"x", "b"}, files);
    } catch (const error & reason) {
        refused = reason.param == "b";
    }
    CHECK(refused);
}
