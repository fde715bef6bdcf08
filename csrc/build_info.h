// What this build is made of, for `pyllama info`. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pyllama {

struct device_info {
    std::string name;
    std::string description;
    std::string backend;
    std::string kind;  // CPU, GPU, iGPU, accelerator
    uint64_t memory_free = 0;
    uint64_t memory_total = 0;
};

std::string llama_cpp_tag();
std::string build_configuration();  // "native", "plug-in" or "system-ggml"
std::string build_flags();          // compiler, build type and the CPU features in use

struct backend_info {
    std::string name;
    std::string library;  // the file's name, or "" where that cannot be told
};

// Loads the backends when they are not yet loaded.
std::vector<backend_info> backends();
std::vector<device_info> devices();

}  // namespace pyllama
