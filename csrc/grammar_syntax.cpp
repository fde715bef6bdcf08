#include "grammar_syntax.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <map>
#include <set>

namespace pyllama {

namespace {

// What llama.cpp takes of repetitions, and of the rules that it makes of them.
constexpr uint64_t most_repeated = 2000;

struct mistake_at {
    size_t position;
    std::string reason;
};

class reader {
  public:
    reader(std::string_view text, const std::function<bool(std::string_view)> & is_token)
        : text_(text), is_token_(is_token) {}

    // rule*, each name used being one of a rule.
    void read() {
        space(true);
        while (at_ < text_.size()) {
            rule();
        }
        for (const auto & [name, position] : used_) {
            if (defined_.count(name) == 0) {
                throw mistake_at{position, "there is no rule '" + std::string(name) + "'"};
            }
        }
        if (defined_.empty()) {
            throw mistake_at{0, "it has no rule"};
        }
    }

  private:
    char next(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }

    [[noreturn]] void expected(const std::string & what) const { throw mistake_at{at_, "expected " + what}; }

    bool take(std::string_view wanted) {
        if (text_.substr(at_, wanted.size()) != wanted) {
            return false;
        }
        at_ += wanted.size();
        return true;
    }

    // Blanks and comments; line ends only where a rule may go on behind them.
    void space(bool line_ends) {
        for (;; ++at_) {
            if (next() == '#') {
                at_ = std::min(text_.find_first_of("\r\n", at_), text_.size());
            }
            const char c = next();
            if (c != ' ' && c != '\t' && !(line_ends && (c == '\r' || c == '\n'))) {
                return;
            }
        }
    }

    static bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-'; }

    std::string_view name() {
        const size_t begin = at_;
        while (is_word(next())) {
            ++at_;
        }
        if (at_ == begin) {
            expected("a rule's name");
        }
        const std::string_view found = text_.substr(begin, at_ - begin);
        n_symbols_ += symbols_.insert(found).second ? 1 : 0;
        return found;
    }

    uint64_t number() {
        uint64_t value = 0;
        const char * end = text_.data() + text_.size();
        const auto [behind, failure] = std::from_chars(text_.data() + at_, end, value);
        if (failure == std::errc::invalid_argument) {
            expected("a number");
        }
        if (failure != std::errc()) {
            expected("a smaller number");
        }
        at_ = static_cast<size_t>(behind - text_.data());
        return value;
    }

    void rule() {
        const std::string_view defined = name();
        space(false);
        if (!take("::=")) {
            expected("'::='");
        }
        space(true);
        alternates(false);
        if (at_ < text_.size() && !take("\r\n") && !take("\r") && !take("\n")) {
            expected("a line's end");
        }
        defined_.insert(defined);
        space(true);
    }

    void alternates(bool nested) {
        sequence(nested);
        while (take("|")) {
            space(true);
            sequence(nested);
        }
    }

    void sequence(bool nested) {
        bool repeatable = false;
        uint64_t n_rules = 1;  // that a repetition repeats
        while (at_ < text_.size()) {
            const char c = next();
            if (c == '*' || c == '+' || c == '?' || c == '{') {
                const size_t begin = at_;
                if (!repeatable) {
                    throw mistake_at{begin, "there is nothing to repeat"};
                }
                const uint64_t n = repetition(nested);
                repeatable = n > 0;
                n_rules *= std::max<uint64_t>(1, n);
                if (n_rules > most_repeated) {
                    throw mistake_at{begin, "this makes more than " + std::to_string(most_repeated) + " rules"};
                }
                continue;
            }
            n_rules = 1;
            if (c == '"') {
                repeatable = literal();
            } else if (c == '[') {
                repeatable = characters();
            } else if (c == '<' || c == '!') {
                token();
                repeatable = true;
            } else if (c == '(') {
                n_rules = group();
                repeatable = true;
            } else if (c == '.') {
                ++at_;
                repeatable = true;
            } else if (is_word(c)) {
                const size_t begin = at_;
                used_.emplace(name(), begin);
                repeatable = true;
            } else {
                return;
            }
            space(nested);
        }
    }

    // Whether there is a character in it.
    bool literal() {
        ++at_;
        const size_t begin = at_;
        while (next() != '"') {
            character();
        }
        return at_++ > begin;
    }

    bool characters() {
        ++at_;
        take("^");
        const size_t begin = at_;
        while (next() != ']') {
            character();
            if (next() == '-' && next(1) != ']') {
                ++at_;
                character();
            }
        }
        return at_++ > begin;
    }

    void character() {
        if (at_ >= text_.size()) {
            throw mistake_at{at_, "it ends within quotes or brackets"};
        }
        if (text_[at_] != '\\') {
            ++at_;
            return;
        }
        const std::map<char, size_t> n_digits = {{'x', 2}, {'u', 4}, {'U', 8}};
        const char escaped = next(1);
        const auto coded = n_digits.find(escaped);
        if (coded == n_digits.end()) {
            if (escaped == '\0' || std::string_view("trn\\\"[]-").find(escaped) == std::string_view::npos) {
                throw mistake_at{at_, "this escape is not known"};
            }
            at_ += 2;
            return;
        }
        at_ += 2;
        for (size_t i = 0; i < coded->second; ++i, ++at_) {
            if (std::isxdigit(static_cast<unsigned char>(next())) == 0) {
                expected(std::to_string(coded->second) + " hexadecimal digits");
            }
        }
    }

    // <[5]>, <name>, and either with an exclamation mark.
    void token() {
        take("!");
        const size_t begin = at_;
        if (!take("<")) {
            expected("'<'");
        }
        if (take("[")) {
            if (number() > UINT32_MAX) {
                throw mistake_at{begin, "there is no such token"};
            }
            if (!take("]>")) {
                expected("']>'");
            }
            return;
        }
        const size_t end = text_.find('>', at_);
        if (end == std::string_view::npos) {
            expected("'>'");
        }
        at_ = end + 1;
        if (!is_token_(text_.substr(begin, at_ - begin))) {
            throw mistake_at{begin, "this is not one token of the model"};
        }
    }

    uint64_t group() {
        ++at_;
        space(true);
        const uint64_t n_before = n_symbols_++;
        alternates(true);
        if (!take(")")) {
            expected("')'");
        }
        return std::max<uint64_t>(1, n_symbols_ - n_before);
    }

    // How often what stands in front of it comes to stand in the grammar, at least.
    uint64_t repetition(bool nested) {
        const char kind = next();
        ++at_;
        space(nested);
        if (kind != '{') {
            ++n_symbols_;
            return 1;
        }
        const uint64_t least = number();
        uint64_t most = least;
        bool bounded = true;
        space(nested);
        if (take(",")) {
            space(nested);
            bounded = std::isdigit(static_cast<unsigned char>(next())) != 0;
            if (bounded) {
                most = number();
                space(nested);
            }
        }
        if (!take("}")) {
            expected("'}'");
        }
        if (least > most_repeated) {
            throw mistake_at{at_, "this repeats more than " + std::to_string(most_repeated) + " times"};
        }
        space(nested);
        bounded = bounded && most <= most_repeated;
        n_symbols_ += bounded ? most - std::min(least, most) : 1;
        return bounded ? most : std::max<uint64_t>(1, least);
    }

    std::string_view text_;
    const std::function<bool(std::string_view)> & is_token_;
    size_t at_ = 0;
    uint64_t n_symbols_ = 0;  // names, and the rules that groups and repetitions become
    std::set<std::string_view> symbols_;
    std::set<std::string_view> defined_;
    std::map<std::string_view, size_t> used_;  // and where for the first time
};

}  // namespace

std::optional<grammar_mistake> find_grammar_mistake(std::string_view grammar,
                                                    const std::function<bool(std::string_view)> & is_token) {
    try {
        reader(grammar, is_token).read();
        return std::nullopt;
    } catch (const mistake_at & found) {
        grammar_mistake mistake;
        mistake.reason = found.reason;
        const std::string_view before = grammar.substr(0, found.position);
        mistake.line = 1 + static_cast<size_t>(std::count(before.begin(), before.end(), '\n'));
        const size_t line_end = before.rfind('\n');
        mistake.column = 1 + found.position - (line_end == std::string_view::npos ? 0 : line_end + 1);
        return mistake;
    }
}

}  // namespace pyllama
