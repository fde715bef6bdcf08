#include "sentence_end.h"

#include <algorithm>
#include <iterator>

#include "common.h"

namespace pyllama {

namespace {

// Full stops of other scripts, and the ellipsis.
constexpr std::string_view marks[] = {"!", "?", "\xE2\x80\xA6", "\xE3\x80\x82", "\xEF\xBC\x81", "\xEF\xBC\x9F"};
constexpr std::string_view closers[] = {"\"", "'", ")", "]", "}", "*", "_", "`", "\xE2\x80\x9D", "\xE2\x80\x99"};

}  // namespace

bool ends_sentence(std::string_view text) {
    const size_t n = text.find_last_not_of(" \t\r\n") + 1;  // 0 when there is nothing else
    if (text.substr(n).find('\n') != std::string_view::npos) {
        return true;
    }
    text = text.substr(0, n);
    for (bool found = true; found;) {
        const auto closer = std::find_if(std::begin(closers), std::end(closers),
                                         [&](std::string_view each) { return string_ends_with(text, each); });
        found = closer != std::end(closers);
        text.remove_suffix(found ? closer->size() : 0);
    }
    if (string_ends_with(text, ".")) {
        return text.size() > 1 && (text[text.size() - 2] < '0' || text[text.size() - 2] > '9');
    }
    return std::any_of(std::begin(marks), std::end(marks),
                       [&](std::string_view each) { return string_ends_with(text, each); });
}

}  // namespace pyllama
