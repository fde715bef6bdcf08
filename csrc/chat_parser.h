// Turns generated text into typed deltas: reasoning, content, tool calls. The parsing is llama-common's, which
// parses the whole answer on every call; so new text waits until parsing it costs no more than a small share of
// the time that passed, and the cost per token stays flat. One thread at a time.
//
//   parsing --the text cannot be what the template's parser expects--> plain (all further text is content)
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "chat.h"
#include "types.h"

namespace pyllama {

struct tool_call_delta {
    size_t index = 0;
    std::string id;    // with name: once, at the head of a call
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
    bool incremental = true;  // false: parse once, in finish()
};

class chat_parser {
  public:
    using clock = std::function<double()>;  // milliseconds, monotonic

    // `vocab` may be null (tests).
    chat_parser(const common_chat_session & session, const llama_vocab * vocab, const chat_parser_options & options,
                clock now = steady_ms);

    // Adds text and gives what can be told from it, which is nothing when parsing is not due.
    chat_delta feed(const std::vector<piece> & batch);
    // Parses what waits.
    chat_delta flush();
    // The end of the answer. `complete` is false when it was cut short. Nothing may be fed after.
    chat_delta finish(bool complete);

    // When flush() wants to be called, in milliseconds from now; negative when nothing waits.
    double flush_due_ms() const;

    bool has_tool_calls() const { return !calls_.empty(); }

    static double steady_ms();

  private:
    struct sent_call {
        std::string id;
        std::string arguments;
    };

    chat_delta parse(bool last, bool complete);
    bool diff(const common_chat_msg & message, bool last, bool complete, chat_delta & delta);
    void diff_call(const common_chat_msg & message, size_t index, bool last, bool complete, chat_delta & delta);
    chat_delta become_plain();
    chat_delta salvage();
    void append(const std::string & text, llama_token token);

    common_chat_parser_params params_;
    common_chat_input input_;      // the generation prompt, then all generated text
    size_t n_parsed_ = 0;          // bytes of input_ that the last good parse saw
    size_t n_failed_ = 0;          // bytes at the first bad parse since, 0 = none
    bool plain_ = false;
    bool incremental_ = true;
    int depth_ = 0;                // open brackets, a bound on the parser's recursion

    std::string reasoning_;        // what was sent, or must not be
    std::string content_;
    std::vector<sent_call> calls_;

    clock now_;
    double parsed_at_ = 0;
    double cost_ms_ = 0;           // of the last parse
};

}  // namespace pyllama
