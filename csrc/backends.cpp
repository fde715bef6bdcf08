#include "backends.h"

#include <dlfcn.h>

#include <filesystem>
#include <mutex>

#include "ggml-backend.h"

namespace pyllama {

std::string backend_folder() {
    Dl_info info{};
    if (dladdr(reinterpret_cast<const void *>(&ggml_backend_load_all_from_path), &info) == 0 || !info.dli_fname) {
        return {};
    }
    std::error_code ignored;
    const auto path = std::filesystem::weakly_canonical(info.dli_fname, ignored);
    return path.parent_path().string();
}

void load_backends() {
    static std::once_flag once;
    std::call_once(once, [] {
        if (ggml_backend_reg_count() == 0) {
            ggml_backend_load_all_from_path(backend_folder().c_str());
        }
    });
}

}  // namespace pyllama
