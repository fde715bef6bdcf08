#include "text_hold.h"

#include <algorithm>
#include <utility>

namespace pyllama {

size_t incomplete_utf8_tail(std::string_view text) {
    const size_t look = std::min<size_t>(text.size(), 3);
    for (size_t back = 1; back <= look; ++back) {
        const auto byte = static_cast<unsigned char>(text[text.size() - back]);
        if ((byte & 0xC0) == 0x80) {
            continue;  // a continuation byte: the character began earlier
        }
        const size_t length = byte >= 0xF0 && byte <= 0xF4 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC2 ? 2 : 1;
        return byte <= 0xF4 && length > back ? back : 0;
    }
    return 0;
}

text_hold::text_hold(std::vector<std::string> stop) {
    std::vector<piece> nothing;
    set_stop(std::move(stop), nothing);
}

void text_hold::set_stop(std::vector<std::string> stop, std::vector<piece> & released) {
    stop_ = std::move(stop);
    longest_ = 0;
    for (const auto & word : stop_) {
        longest_ = std::max(longest_, word.size());
    }
    release_until(held_from(), released);
}

const std::string * text_hold::find_stop(size_t from, size_t & at) const {
    const std::string * found = nullptr;
    at = std::string::npos;
    for (const auto & word : stop_) {
        const size_t position = text_.find(word, from);
        if (position < at) {
            at = position;
            found = &word;
        }
    }
    return found;
}

// Where the text begins that must wait: a possible start of a stop string, or an incomplete character.
size_t text_hold::held_from() const {
    size_t from = text_.size() - incomplete_utf8_tail(text_);
    for (const auto & word : stop_) {
        const size_t most = std::min(word.size() - 1, text_.size());
        for (size_t length = most; length > 0; --length) {
            if (text_.compare(text_.size() - length, length, word, 0, length) == 0) {
                from = std::min(from, text_.size() - length);
                break;
            }
        }
    }
    return from;
}

void text_hold::release_until(size_t safe, std::vector<piece> & released) {
    size_t end = 0;
    size_t count = 0;
    for (; count < held_.size() && end + held_[count].text.size() <= safe; ++count) {
        end += held_[count].text.size();
        released.push_back(std::move(held_[count]));
    }
    held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(count));
    text_.erase(0, end);
}

const std::string * text_hold::add(piece && next, std::vector<piece> & released) {
    // A stop string may begin in text that is held, but never in text that was already searched whole.
    const size_t from = text_.size() > longest_ ? text_.size() - longest_ : 0;
    text_ += next.text;
    held_.push_back(std::move(next));

    size_t at = 0;
    if (const std::string * found = find_stop(from, at)) {
        const size_t before = text_.size();
        release_until(at, released);
        at -= before - text_.size();
        // The token in which the stop string begins: its text up to there.
        if (at > 0) {
            piece cut = std::move(held_.front());
            cut.text.resize(at);
            released.push_back(std::move(cut));
        }
        for (piece & left : held_) {
            if (left.control) {
                released.push_back(std::move(left));
            }
        }
        held_.clear();
        text_.clear();
        return found;
    }
    release_until(held_from(), released);
    return nullptr;
}

void text_hold::pass(piece && next, std::vector<piece> & released) {
    text_ += next.text;
    held_.push_back(std::move(next));
    release_until(text_.size() - incomplete_utf8_tail(text_), released);
}

void text_hold::add_note(piece && note, std::vector<piece> & released) {
    (held_.empty() ? released : held_).push_back(std::move(note));
}

void text_hold::flush(std::vector<piece> & released) {
    const size_t first = released.size();
    size_t n_incomplete = incomplete_utf8_tail(text_);
    release_until(text_.size(), released);
    for (size_t i = released.size(); n_incomplete > 0 && i-- > first;) {
        std::string & text = released[i].text;
        const size_t n = std::min(n_incomplete, text.size());
        text.resize(text.size() - n);
        n_incomplete -= n;
    }
}

}  // namespace pyllama
