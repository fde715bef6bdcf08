// A field of the answer (its reasoning, its content) whose text goes on until one of a few delimiters comes, and a
// string in the JSON of a tool call's arguments, which goes on until its quote. While one of them is open, new text
// belongs to it as it is, and nothing has to be parsed again to know that. Any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>
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

// Whether the parser gives a tool call's arguments as they stand in the text, and reads them as JSON.
bool has_json_arguments(const common_peg_arena & parser);

// Follows JSON, which comes in pieces, as far as to know whether it ends inside a string.
class json_string_tracker {
  public:
    void read(std::string_view more);
    // Inside a string, and behind a whole escape sequence.
    bool in_string() const { return in_string_ && n_escape_ == 0; }
    // Where its text begins, in characters read.
    size_t string_begin() const { return string_begin_; }

  private:
    bool in_string_ = false;
    size_t n_read_ = 0;
    size_t string_begin_ = 0;
    int n_escape_ = 0;            // characters that the escape sequence lacks
    bool escape_digits_ = false;  // and they are the digits of a \u
};

// Whether `text` ends with the value of an open JSON string, of which `inside` is what it holds so far, as it is: a
// value between tags. Not where quotes stand around it, nor when it is blank, which could be the tag's.
bool ends_with_value(const std::string & text, const std::string & inside);

// How far the text from `begin` on belongs to an open JSON string, whose quote does not. Ends before a sequence that is
// not whole yet, and is closed by what a JSON string cannot hold.
field_text read_json_string(const std::string & text, size_t begin);

}  // namespace pyllama
