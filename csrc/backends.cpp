#include "backends.h"

#include <dlfcn.h>

#include <filesystem>
#include <mutex>

#include "ggml-backend.h"

namespace pyllama {

namespace {

// The file that holds an address of code or data.
std::filesystem::path library_of(const void * address) {
    Dl_info info{};
    if (dladdr(address, &info) == 0 || !info.dli_fname) {
        return {};
    }
    std::error_code ignored;
    return std::filesystem::weakly_canonical(info.dli_fname, ignored);
}

}  // namespace

std::vector<std::string> backend_folders() {
#ifdef PYLLAMA_SYSTEM_BACKEND_DIR
    return {PYLLAMA_SYSTEM_BACKEND_DIR};
#else
    const auto own = library_of(reinterpret_cast<const void *>(&ggml_backend_load_all_from_path)).parent_path();
    return {(own / PYLLAMA_LLAMA_CPP_TAG).string(), own.string()};
#endif
}

std::string backend_library(size_t index) {
    return library_of(ggml_backend_reg_get(index)).filename().string();
}

void load_backends() {
    static std::once_flag once;
    std::call_once(once, [] {
        if (ggml_backend_reg_count() == 0) {
            for (const std::string & folder : backend_folders()) {
                std::error_code ignored;
                if (std::filesystem::is_directory(folder, ignored)) {
                    ggml_backend_load_all_from_path(folder.c_str());
                }
            }
        }
    });
}

}  // namespace pyllama
