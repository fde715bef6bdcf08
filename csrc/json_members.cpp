#include "json_members.h"

#include <algorithm>

#include "errors.h"

namespace pyllama {

namespace {

class scanner {
  public:
    explicit scanner(std::string_view text) : text_(text) {}

    char next() {
        while (at_ < text_.size() && is_space(text_[at_])) {
            ++at_;
        }
        return at_ < text_.size() ? text_[at_] : '\0';
    }

    bool take(char expected) {
        const bool found = next() == expected && at_ < text_.size();
        at_ += found ? 1 : 0;
        return found;
    }

    void require(char expected) {
        if (!take(expected)) {
            fail();
        }
    }

    bool ended() { return next() == '\0' && at_ == text_.size(); }

    std::string_view string() {
        require('"');
        const size_t begin = at_;
        skip_string();
        return text_.substr(begin, at_ - 1 - begin);
    }

    std::string_view value() {
        const char first = next();
        const size_t begin = at_;
        if (first == '"') {
            ++at_;
            skip_string();
        } else if (first == '{' || first == '[') {
            skip_nested();
        } else {
            at_ = text_.find_first_of(",:\"{}[] \t\r\n", at_);
            at_ = at_ == std::string_view::npos ? text_.size() : at_;
        }
        if (at_ == begin) {
            fail();
        }
        return text_.substr(begin, at_ - begin);
    }

    [[noreturn]] void fail() const {
        throw bad_request("the message is not a JSON object: it goes wrong at byte " + std::to_string(at_));
    }

  private:
    static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

    // From behind the opening quote to behind the closing one.
    void skip_string() {
        for (;;) {
            at_ = text_.find_first_of("\"\\", at_);
            if (at_ == std::string_view::npos) {
                at_ = text_.size();
                fail();
            }
            if (text_[at_] == '"') {
                ++at_;
                return;
            }
            at_ = std::min(at_ + 2, text_.size());
        }
    }

    void skip_nested() {
        size_t depth = 0;
        do {
            at_ = text_.find_first_of("\"{}[]", at_);
            if (at_ == std::string_view::npos) {
                at_ = text_.size();
                fail();
            }
            const char c = text_[at_++];
            if (c == '"') {
                skip_string();
            } else if (c == '{' || c == '[') {
                ++depth;
            } else {
                --depth;
            }
        } while (depth > 0);
    }

    std::string_view text_;
    size_t at_ = 0;
};

}  // namespace

std::vector<std::pair<std::string, std::string>> json_members(std::string_view text, size_t n_most) {
    std::vector<std::pair<std::string, std::string>> members;
    scanner scan(text);
    scan.require('{');
    if (!scan.take('}')) {
        do {
            if (members.size() == n_most) {
                throw bad_request("the message has an object of more than " + std::to_string(n_most) + " members");
            }
            const std::string_view name = scan.string();
            scan.require(':');
            members.emplace_back(name, scan.value());
        } while (scan.take(','));
        scan.require('}');
    }
    if (!scan.ended()) {
        scan.fail();
    }
    return members;
}

}  // namespace pyllama
