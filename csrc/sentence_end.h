// Where a text may be cut without breaking a sentence. Pure; any thread.
#pragma once

#include <string_view>

namespace pyllama {

// Whether `text` ends with a line or with a sentence: a line feed, or a full stop, an exclamation or a question mark,
// with closing quotes and spaces behind them. A stop behind a digit ends nothing: "3." may be the head of a number or a
// list.
bool ends_sentence(std::string_view text);

}  // namespace pyllama
