// Where backends are looked for, and which library each came from.
#include "backends.h"

#include <filesystem>

#include "build_info.h"
#include "check.h"

namespace {

TEST(plugins_of_this_llama_cpp_come_before_the_libraries_beside_them) {
    const auto folders = pyllama::backend_folders();
    CHECK_EQ(folders.size(), 2u);
    const std::filesystem::path plugins(folders[0]);
    CHECK_EQ(plugins.filename().string(), pyllama::llama_cpp_tag());
    CHECK_EQ(plugins.parent_path().string(), folders[1]);
    CHECK(std::filesystem::is_directory(folders[1]));
}

TEST(every_backend_names_its_library) {
    const auto backends = pyllama::backends();
    CHECK(!backends.empty());
    for (const auto & backend : backends) {
        CHECK(backend.library.find("ggml") != std::string::npos);
    }
}

TEST(loading_twice_finds_nothing_new) {
    const size_t before = pyllama::backends().size();
    pyllama::load_backends();
    CHECK_EQ(pyllama::backends().size(), before);
}

}  // namespace
