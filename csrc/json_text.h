// JSON written straight into a string, without a tree, and UTF-8 repaired on the way. Pure functions: any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "errors.h"

namespace pyllama {

// Bytes of `text` up to the first that is not well-formed UTF-8 (no surrogates, nothing overlong); text.size()
// when all is.
size_t valid_utf8_prefix(std::string_view text);
inline bool is_valid_utf8(std::string_view text) {
    return valid_utf8_prefix(text) == text.size();
}

// Appends `text` as the inside of a JSON string. Each maximal malformed part becomes one U+FFFD.
void append_escaped(std::string & out, std::string_view text);

// The same with its quotes.
void append_quoted(std::string & out, std::string_view text);
std::string json_quoted(std::string_view text);

// A finite number in the fewest digits that read back the same; null for NaN, the largest finite number for an
// infinity.
void append_number(std::string & out, double value);
void append_number(std::string & out, float value);
void append_integer(std::string & out, int64_t value);

// [1,2,255]: the bytes of `text`.
void append_bytes(std::string & out, std::string_view text);

// The HTTP status and OpenAI type of an error, as in the table of errors.h.
int error_status(error_kind kind);
std::string_view error_type(error_kind kind);

// {"code":400,"message":"...","type":"...","param":"..."}: param only where there is one, the two counts only for
// context_exceeded.
void append_error(std::string & out, const error & reason);

}  // namespace pyllama
