#include "media_token.h"

#include <array>
#include <atomic>

#include "errors.h"

namespace pyllama {

namespace {

constexpr uint32_t n_hash_bits = 29;
constexpr uint32_t hash_mask = (uint32_t{1} << n_hash_bits) - 1;
constexpr size_t n_digits = 64;

std::array<uint32_t, 8> words_of(const std::string & sha256) {
    if (sha256.size() != n_digits || sha256.find_first_not_of("0123456789abcdef") != std::string::npos) {
        throw error(error_kind::engine, "media came without its hash");
    }
    std::array<uint32_t, 8> words = {};
    for (size_t i = 0; i < words.size(); ++i) {
        words[i] = static_cast<uint32_t>(std::stoul(sha256.substr(8 * i, 8), nullptr, 16));
    }
    return words;
}

// One after another of the 256 bits, around and around: nine rows hold them all.
uint32_t hash_bits(const std::array<uint32_t, 8> & words, size_t row) {
    const size_t first = row * n_hash_bits % 256;
    const uint64_t two = words[first / 32] | static_cast<uint64_t>(words[(first / 32 + 1) % 8]) << 32;
    return static_cast<uint32_t>(two >> first % 32) & hash_mask;
}

uint32_t scrambled(uint64_t value) {
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9;
    value = (value ^ value >> 27) * 0x94d049bb133111eb;
    return static_cast<uint32_t>(value >> 31);
}

}  // namespace

std::vector<llama_token> media_tokens(const std::string & sha256, uint32_t nth, int32_t n_rows, int32_t n_pos) {
    static std::atomic<uint32_t> n_unknown{0};
    if (n_rows < 1 || n_pos < 1 || n_pos > n_rows) {
        throw error(error_kind::engine, "media takes " + std::to_string(n_pos) + " positions for " +
                                            std::to_string(n_rows) + " rows: there is no place for it");
    }
    const auto words = words_of(sha256);
    const uint32_t unlike = n_rows < least_known_rows ? ++n_unknown : 0;
    std::vector<llama_token> tokens(static_cast<size_t>(n_rows));
    for (size_t i = 0; i < tokens.size(); ++i) {
        const uint64_t place = (static_cast<uint64_t>(nth) << 32 | static_cast<uint32_t>(n_rows)) + (i << 48);
        uint32_t bits = (hash_bits(words, i) ^ scrambled(place)) & hash_mask;
        bits = unlike > 0 ? unlike & hash_mask : bits;
        bits |= uint32_t{1} << 31;
        bits |= static_cast<int32_t>(i) < n_pos ? uint32_t{media_position_bit} : 0;
        bits |= i == 0 ? uint32_t{media_begin_bit} : 0;
        const auto token = static_cast<llama_token>(bits);
        tokens[i] = token == LLAMA_TOKEN_NULL ? token - 1 : token;
    }
    return tokens;
}

}  // namespace pyllama
