// Identifiers that cannot be guessed. Any thread.
#pragma once

#include <cstdint>
#include <random>
#include <string>

namespace pyllama {

// The system's random source, one a thread: making one asks the processor what it is, which takes a virtual machine
// tens of microseconds.
inline std::random_device & random_source() {
    thread_local std::random_device source;
    return source;
}

// 32 letters and digits, straight from the system's random source.
inline std::string random_id() {
    static constexpr char letters[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    constexpr uint32_t n_letters = sizeof(letters) - 1;
    std::random_device & source = random_source();
    uint32_t bits = 0;
    int n_left = 0;  // groups of six bits
    std::string id(32, '0');
    for (char & c : id) {
        uint32_t index;
        do {
            if (n_left == 0) {
                bits = source();
                n_left = 5;
            }
            index = bits & 63;
            bits >>= 6;
            n_left--;
        } while (index >= n_letters);
        c = letters[index];
    }
    return id;
}

inline uint32_t random_seed() {
    return static_cast<uint32_t>(random_source()());
}

}  // namespace pyllama
