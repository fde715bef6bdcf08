// How long an answer may think, and the end that is put to it:
//
//   idle --start tag, or the prompt left a block open--> counting --end tag--> done --start tag--> counting
//   counting --budget used up, or an end was asked for--> waiting_utf8 --the character is complete--> forcing
//   forcing --the forced text is in the answer--> done        waiting_utf8, forcing --end tag--> done
//
// One budget counts over all blocks of an answer, so a block that opens when nothing is left is ended at once. An end
// that is asked for goes to the block that is open, or to the first one to open; the block's own end cancels it.
// With a soft landing the end is sought in the last tokens of the budget: the end tag is preferred more and more, and
// in the second half of them the end is wanted as soon as a line or a sentence ends. This class decides when; the
// generation puts the forced text in. Tokens go in on the thread that samples, the rest is the engine thread's; one per
// request.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reasoning.h"

namespace pyllama {

enum class budget_state { idle, counting, waiting_utf8, forcing, done };

class reasoning_budget {
  public:
    static constexpr int32_t unlimited = -1;
    // Tokens to wait for the rest of a character: more do not come but in text that is no UTF-8.
    static constexpr int32_t n_wait_max = 16;

    // open: the prompt ends inside a block. limit: sampled tokens inside blocks, tags not counted.
    // soft: how many tokens of the limit the landing takes, 0 = none; it needs the tokens' texts.
    reasoning_budget(std::vector<llama_tokens> start, std::vector<llama_tokens> end, bool open, int32_t limit,
                     int32_t soft = 0);

    // As reasoning_tracker's.
    void read_text(std::vector<std::string> start, std::vector<std::string> end) {
        tracker_.read_text(std::move(start), std::move(end));
    }

    // A token of the answer, sampled or forced. Returns the end sequence that it completes, or null.
    const llama_tokens * sampled(llama_token token, std::string_view text = {});
    const llama_tokens * forced(llama_token token, std::string_view text = {});

    // Whether the forced text belongs right here. text_complete: the answer's text so far ends with a whole character.
    bool wants_end() const { return tracker_.inside() && (asked_ || exhausted() || lands()); }
    bool due(bool text_complete) const { return wants_end() && (text_complete || n_waited_ >= n_wait_max); }
    bool exhausted() const { return limit_ >= 0 && n_used_ >= limit_; }

    // How much the next token should be the end tag: 0 before the landing, growing to 1 at the budget's last token.
    float lean() const;

    // Asks for the end of the block that is open, or that opens next. withdraw() takes that back.
    void ask() { asked_ = true; }
    void withdraw() { asked_ = false; }
    bool asked() const { return asked_; }

    int32_t limit() const { return limit_; }
    void set_limit(int32_t limit) { limit_ = limit; }
    int32_t n_used() const { return n_used_; }

    bool inside() const { return tracker_.inside(); }
    bool has_tags() const { return tracker_.has_tags(); }
    int32_t n_tokens() const { return tracker_.n_tokens(); }  // inside blocks, sampled or forced, tags not counted

    budget_state state(bool text_complete) const;

  private:
    void left();
    bool lands() const;
    void hear(std::string_view text);

    reasoning_tracker tracker_;
    int32_t limit_;
    int32_t soft_;
    std::string heard_;  // the last bytes of the block that is open
    int32_t n_used_ = 0;
    int32_t n_waited_ = 0;  // tokens since the end was wanted
    bool asked_ = false;
    bool left_one_ = false;  // a block has ended
};

}  // namespace pyllama
