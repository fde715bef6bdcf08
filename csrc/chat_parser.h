// Turns generated text into typed deltas: reasoning, content, tool calls. The parsing is llama-common's, which
// parses the whole answer on every call. Two things keep the cost per token flat all the same: while the reasoning, the
// content or a string in a tool call's arguments goes on, new text is added to it as it is, up to the next
// delimiter; and otherwise it waits until parsing costs no more than a small share of the time that passed. One thread
// at a time.
//
//   parsing --all new text went to one field--> following --a delimiter--> parsing
//   parsing --the text cannot be what the template's parser expects--> plain (all further text is content)
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "chat.h"
#include "text_field.h"
#include "types.h"

namespace pyllama {

struct tool_call_delta {
    size_t index = 0;
    std::string id;  // with name: once, at the head of a call
    std::string name;
    std::string arguments;
};

struct chat_delta {
    std::string reasoning;
    std::string content;
    std::vector<tool_call_delta> tool_calls;
    bool empty() const { return reasoning.empty() && content.empty() && tool_calls.empty(); }
};

struct chat_parser_options {
    bool echo = false;        // repeat the text of a continued message
    bool plain = false;       // all text is content, as it is
    bool incremental = true;  // false: parse once, in finish()
    std::string continued;    // text of the continued message after the session's generation prompt
};

// Milliseconds; what is not given is the system's.
struct chat_parser_clocks {
    std::function<double()> now;    // monotonic
    std::function<double()> spent;  // by this thread: when others have its core, parsing has not become dearer
};

class chat_parser {
  public:
    // `vocab` may be null (tests).
    chat_parser(const common_chat_session & session, const llama_vocab * vocab, const chat_parser_options & options,
                chat_parser_clocks time = {});

    // Adds text and gives what can be told from it, which is nothing when parsing is not due.
    chat_delta feed(const std::vector<piece> & batch);
    // Parses what waits.
    chat_delta flush();
    // The end of the answer. `complete` is false when it was cut short. Nothing may be fed after.
    chat_delta finish(bool complete);

    // When flush() wants to be called, in milliseconds from now; negative when nothing waits.
    double flush_due_ms() const;

    // Whether feeding parses the whole answer again. All parsers that do share the time there is for it: `n` is how
    // many there are, this one included.
    bool is_costly() const { return incremental_ && !plain_ && open_ == field::none && n_parses_ > 0; }
    void share_budget(size_t n) { n_sharing_ = n > 0 ? n : 1; }

    bool has_tool_calls() const { return !calls_.empty(); }
    size_t n_parses() const { return n_parses_; }

    static double steady_ms();
    static double thread_ms();

  private:
    struct sent_call {
        std::string id;
        std::string arguments;
    };
    using delimiters = std::optional<std::vector<std::string>>;
    enum class field { none, reasoning, content, json_string, tagged_string };

    chat_delta parse(bool last, bool complete);
    chat_delta follow();
    chat_delta follow_arguments();
    field open_argument(const common_chat_msg & message);
    field open_after(const chat_delta & delta, size_t begin) const;
    bool diff(const common_chat_msg & message, bool last, bool complete, chat_delta & delta);
    void diff_call(const common_chat_msg & message, size_t index, bool last, bool complete, chat_delta & delta);
    chat_delta become_plain();
    void skip_continued(const common_chat_session & session, const std::string & continued);
    chat_delta salvage();
    chat_delta release_tail();
    void count_brackets();

    common_chat_parser_params params_;
    common_chat_input input_;  // the generation prompt, then all generated text
    size_t n_parsed_ = 0;      // bytes of input_ that are accounted for: by the last good parse, or followed
    size_t n_failed_ = 0;      // bytes at the first bad parse since, 0 = none
    bool plain_ = false;
    bool incremental_ = true;
    size_t n_counted_ = 0;  // bytes of input_ whose brackets are in depth_, or were followed
    int depth_ = 0;         // open brackets, a bound on the parser's recursion

    std::string reasoning_;  // what was sent, or must not be
    std::string content_;
    std::vector<sent_call> calls_;

    // What ends these fields' texts; nothing when they cannot be followed.
    delimiters reasoning_end_;
    delimiters content_end_;
    field open_ = field::none;  // the field that is followed

    // A call's arguments stand in the text as JSON, or their strings stand between tags, of which these end them.
    bool json_arguments_ = false;
    delimiters tagged_string_end_;
    // The last call's, as far as they were looked at.
    size_t n_tracked_call_ = 0;
    size_t n_tracked_ = 0;
    json_string_tracker strings_;

    chat_parser_clocks time_;
    double parsed_at_ = 0;
    double cost_ms_ = 0;  // of the last parse
    size_t n_sharing_ = 1;
    size_t n_parses_ = 0;
};

}  // namespace pyllama
