// The least indentation of every line after the first. Engine thread; one per request.
#pragma once

#include <cstdint>
#include <string_view>

namespace pyllama {

class indent_rule {
  public:
    // 0 allows everything.
    explicit indent_rule(int32_t least) : least_(least) {}

    // Follows the text's next part. Returns how many bytes of it come before the first line that is not indented
    // enough: text.size() when there is none.
    size_t accept(std::string_view text);

  private:
    int32_t least_;
    int32_t n_seen_ = -1;  // blanks at the head of the line; -1 behind its first other character
};

}  // namespace pyllama
