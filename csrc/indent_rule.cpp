#include "indent_rule.h"

namespace pyllama {

size_t indent_rule::accept(std::string_view text) {
    if (least_ <= 0) {
        return text.size();
    }
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (c == '\n') {
            n_seen_ = 0;
        } else if (n_seen_ >= 0 && (c == ' ' || c == '\t')) {
            ++n_seen_;
        } else if (n_seen_ >= 0) {
            if (n_seen_ < least_) {
                return i;
            }
            n_seen_ = -1;
        }
    }
    return text.size();
}

}  // namespace pyllama
