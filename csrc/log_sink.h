// The one owner of llama.cpp's log, which is process-wide. The callback may run on any thread: it takes a short
// mutex, never blocks on a reader, and never touches Python.
//
// Lines of WARN and above (set_log_level) go to stderr until a reader attaches; then lines of at least its level wait
// in a bounded buffer for it. Errors logged inside a log_capture scope are the reason of a failure that its owner
// reports, and go there instead.
#pragma once

#include <functional>
#include <string>

namespace pyllama {

enum class log_level { debug = 1, info = 2, warn = 3, error = 4 };

struct log_line {
    log_level level = log_level::info;
    std::string text;  // without the line end
};

// Takes llama.cpp's and ggml's log over. Idempotent; any thread, before the first call into llama.cpp.
void install_log();

// Which lines go to stderr while no reader is attached; WARN and above unless said otherwise. Any thread.
void set_log_level(log_level level);

// Logs a line of our own as llama.cpp's are. Any thread.
void log_text(log_level level, std::string text);

// Collects the errors that are logged on the thread that made it, while it lives. Scopes nest.
class log_capture {
  public:
    log_capture();
    ~log_capture();
    log_capture(const log_capture &) = delete;
    log_capture & operator=(const log_capture &) = delete;

    const std::string & text() const { return text_; }  // lines joined by '\n', empty when there was none

  private:
    friend struct log_state;
    std::string text_;
    log_capture * outer_;
};

// Shows every text that is logged on the thread that made it, whatever its level, before anything else is done with
// it. `see` may throw into llama.cpp where that is C++ and catches. One at a time on a thread.
class log_watch {
  public:
    explicit log_watch(std::function<void(const char *)> see);
    ~log_watch();
    log_watch(const log_watch &) = delete;
    log_watch & operator=(const log_watch &) = delete;

  private:
    std::function<void(const char *)> see_;
};

// The reader's side, for one reader thread. attach: from now on lines of at least `level` are kept for the
// reader. next: blocks for a line; false once detached. detach: wakes next(); any thread.
void attach_log_reader(log_level level);
bool next_log_line(log_line & line);
void detach_log_reader();

}  // namespace pyllama
