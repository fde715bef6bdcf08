// Holds a request's newest text back until it may be sent: while it could still become a stop string, and
// while its last UTF-8 character is incomplete. Releases whole tokens, so that token ids and logprobs stay
// with their text. Engine thread; one per request.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "types.h"

namespace pyllama {

// Bytes at the end of `text` that begin a UTF-8 character without completing it (0 to 3).
size_t incomplete_utf8_tail(std::string_view text);

class text_hold {
  public:
    explicit text_hold(std::vector<std::string> stop);

    // Adds a token's text. Whatever may be sent now is appended to `released`. Returns the stop string that
    // is now complete, or null; after one, nothing more may be added, and what precedes it is released.
    const std::string * add(piece && next, std::vector<piece> & released);

    // Adds the text of a forced token. It is no part of a stop string: flush() what was sampled before, and what is
    // sampled after it begins anew.
    void pass(piece && next, std::vector<piece> & released);

    // Other stop strings from now on.
    void set_stop(std::vector<std::string> stop, std::vector<piece> & released);

    // Whether the text so far ends with a whole character.
    bool complete() const { return incomplete_utf8_tail(text_) == 0; }
    // Puts a piece without text behind what is held, which is never lost: a stop string takes only text with it.
    void add_note(piece && note, std::vector<piece> & released);

    // The request ended without a stop string: everything still held is released. An incomplete character is left
    // out of the text: an answer that was cut inside one can then be continued, which generates it again.
    void flush(std::vector<piece> & released);

  private:
    const std::string * find_stop(size_t from, size_t & at) const;
    size_t held_from() const;
    void release_until(size_t safe, std::vector<piece> & released);

    std::vector<std::string> stop_;
    size_t longest_ = 0;
    std::string text_;  // of the held pieces, joined
    std::vector<piece> held_;
};

}  // namespace pyllama
