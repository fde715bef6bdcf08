// Identifiers that cannot be guessed. Any thread.
#pragma once

#include <cstdint>
#include <random>
#include <string>

namespace pyllama {

// 32 letters and digits, straight from the system's random source.
inline std::string random_id() {
    static constexpr char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    std::random_device source;
    std::uniform_int_distribution<int> index(0, sizeof(letters) - 2);
    std::string id(32, '0');
    for (char & c : id) {
        c = letters[index(source)];
    }
    return id;
}

inline uint32_t random_seed() {
    std::random_device source;
    return static_cast<uint32_t>(source());
}

}  // namespace pyllama
