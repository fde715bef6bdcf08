// A field of the answer (its reasoning, its content) whose text goes on until one of a few delimiters comes. While it
// is open, new text belongs to it as it is, and nothing has to be parsed again to know that. Any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "peg-parser.h"

namespace pyllama {

// What ends the texts that a parser gives to a tag ("reasoning", "content"): the delimiters of all of them together,
// none when such a text goes to the end. Nothing when the parser makes the tag's text in another way than by reading
// up to a delimiter, or never makes any.
std::optional<std::vector<std::string>> text_delimiters(const common_peg_arena & parser, const std::string & tag);

struct field_text {
    size_t end = 0;       // up to here the text belongs to the field
    bool closed = false;  // a delimiter follows, or bytes that need the parser; otherwise more text decides
};

// How far the text from `begin` on belongs to an open field: as the parser's own rule reads it, so a delimiter's
// possible beginning at the very end, or a cut character, does not belong to it yet.
field_text read_field(const std::string & text, size_t begin, const std::vector<std::string> & delimiters);

}  // namespace pyllama
