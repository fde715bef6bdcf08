// How a list of tokens shows media: by numbers below LLAMA_TOKEN_NULL, one for each row of embeddings, which llama.cpp
// never sees. They carry the content's SHA-256, 29 bits each, so two lists have a prefix in common exactly as far as
// they have the same text and the same media, whoever compares them: slots, the prefix cache, saved sequences.
//
//   bit 31: 1 | bit 30: it takes a position | bit 29: its chunk begins here | 29 bits of the hash
//
// With M-RoPE an image takes fewer positions than it has rows: a list knows its positions by itself. Pure, any thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "llama.h"

namespace pyllama {

constexpr bool is_media(llama_token token) {
    return token < LLAMA_TOKEN_NULL;
}

constexpr llama_token media_begin_bit = 1 << 29;
constexpr llama_token media_position_bit = 1 << 30;

constexpr bool begins_media(llama_token token) {
    return is_media(token) && (token & media_begin_bit) != 0;
}

constexpr bool takes_position(llama_token token) {
    return !is_media(token) || (token & media_position_bit) != 0;
}

// Whether that many rows hold enough of a hash to be known by it. Fewer rows are like no others, not even their own.
constexpr int32_t least_known_rows = 4;

// The tokens of a chunk. sha256: of the file that it came from, 64 hexadecimal digits; nth: which of the file's chunks.
// Throws error(engine) when n_pos is not within 1 and n_rows.
std::vector<llama_token> media_tokens(const std::string & sha256, uint32_t nth, int32_t n_rows, int32_t n_pos);

// Positions that the first n tokens take.
inline llama_pos n_positions(const std::vector<llama_token> & tokens, size_t n) {
    const auto end = tokens.begin() + static_cast<std::ptrdiff_t>(n);
    return static_cast<llama_pos>(std::count_if(tokens.begin(), end, takes_position));
}

// How many of the first n tokens are there when no chunk may be cut.
inline int32_t without_cut_media(const std::vector<llama_token> & tokens, int32_t n) {
    const auto cut = [&](int32_t at) {
        const auto i = static_cast<size_t>(at);
        return i < tokens.size() && is_media(tokens[i]) && !begins_media(tokens[i]);
    };
    while (n > 0 && cut(n)) {
        --n;
    }
    return n;
}

// Whether that list holds any.
inline bool has_media(const std::vector<llama_token> & tokens) {
    return std::any_of(tokens.begin(), tokens.end(), is_media);
}

}  // namespace pyllama
