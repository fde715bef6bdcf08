#include "build_info.h"

#include "backends.h"
#include "ggml-backend.h"
#include "llama.h"

namespace pyllama {

std::string llama_cpp_tag() {
    return PYLLAMA_LLAMA_CPP_TAG;
}

std::string build_configuration() {
    return PYLLAMA_CONFIGURATION;
}

std::string build_flags() {
    load_backends();
#if defined(__clang__)
    const std::string compiler = "clang " __clang_version__;
#elif defined(__GNUC__)
    const std::string compiler = "gcc " __VERSION__;
#else
    const std::string compiler = "unknown compiler";
#endif
    return compiler + ", " PYLLAMA_BUILD_TYPE ", " + llama_print_system_info();
}

std::vector<backend_info> backends() {
    load_backends();
    std::vector<backend_info> found;
    for (size_t i = 0; i < ggml_backend_reg_count(); ++i) {
        found.push_back({ggml_backend_reg_name(ggml_backend_reg_get(i)), backend_library(i)});
    }
    return found;
}

namespace {

const char * kind_name(enum ggml_backend_dev_type type) {
    switch (type) {
        case GGML_BACKEND_DEVICE_TYPE_CPU: return "CPU";
        case GGML_BACKEND_DEVICE_TYPE_GPU: return "GPU";
        case GGML_BACKEND_DEVICE_TYPE_IGPU: return "iGPU";
        default: return "accelerator";
    }
}

}  // namespace

std::vector<device_info> devices() {
    load_backends();
    std::vector<device_info> found;
    for (size_t i = 0; i < ggml_backend_dev_count(); ++i) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        device_info info;
        info.name = ggml_backend_dev_name(device);
        info.description = ggml_backend_dev_description(device);
        info.backend = ggml_backend_reg_name(ggml_backend_dev_backend_reg(device));
        info.kind = kind_name(ggml_backend_dev_type(device));
        size_t free = 0;
        size_t total = 0;
        ggml_backend_dev_memory(device, &free, &total);
        info.memory_free = free;
        info.memory_total = total;
        found.push_back(std::move(info));
    }
    return found;
}

}  // namespace pyllama
