#include "channel.h"

#include <algorithm>
#include <exception>
#include <iterator>
#include <new>
#include <utility>

namespace pyllama {

namespace {

// The exception in flight as the error that ends a session.
error writer_error() {
    try {
        throw;
    } catch (const std::bad_alloc &) {
        return {error_kind::engine, "out of memory"};
    } catch (const std::exception & e) {
        return {error_kind::engine, e.what()};
    } catch (...) {
        return {error_kind::engine, "unknown error"};
    }
}

}  // namespace

// Appends to the session, and knows whether there is anything to wake a reader for.
class channel::session_sink : public frame_sink {
  public:
    explicit session_sink(stream_session & session) : session_(session) {}

    void frame(std::string_view bytes) override {
        session_.append(bytes);
        changed = true;
    }

    bool changed = false;

  private:
    stream_session & session_;
};

channel::channel(std::unique_ptr<frame_writer> writer, std::shared_ptr<stream_session> session, int32_t n_choices)
    : n_open_(n_choices),
      session_(std::move(session)),
      writer_(std::move(writer)),
      n_choices_(static_cast<size_t>(n_choices)) {}

bool channel::push_start() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (n_open_ == 0) {
        return false;
    }
    pending_.start = true;
    return mark_dirty();
}

bool channel::push_progress(const prefill_progress & progress) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (n_open_ == 0) {
        return false;
    }
    pending_.progress.push_back(progress);
    return mark_dirty();
}

bool channel::push(piece && value) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (n_open_ == 0) {
        return false;
    }
    pending_.pieces.push_back(std::move(value));
    return mark_dirty();
}

bool channel::push_finish(generation_result && result) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (n_open_ == 0) {
        return false;
    }
    pending_.results.push_back(std::move(result));
    --n_open_;
    return mark_dirty();
}

bool channel::push_failure(error && reason) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (n_open_ == 0) {
        return false;
    }
    pending_.failure = std::move(reason);
    n_open_ = 0;
    return mark_dirty();
}

bool channel::render() {
    events taken;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        dirty_ = false;
        std::swap(taken, pending_);
    }
    if (finished_) {
        return true;
    }
    const bool was_started = started_;
    session_sink sink(*session_);
    try {
        write(taken, sink);
    } catch (...) {
        if (taken.failure) {
            end(std::move(taken.failure));  // fail() itself threw: the engine's reason says more
        } else {
            give_up(writer_error(), sink);
        }
    }
    if (sink.changed || started_ != was_started || finished_) {
        session_->wake();
    }
    return finished_;
}

double channel::flush_due_ms() const {
    return writer_ ? writer_->flush_due_ms() : -1;
}

void channel::flush() {
    if (finished_) {
        return;
    }
    session_sink sink(*session_);
    try {
        writer_->flush(sink);
    } catch (...) {
        give_up(writer_error(), sink);
    }
    if (sink.changed || finished_) {
        session_->wake();
    }
}

size_t channel::n_costly() const {
    return writer_ ? writer_->n_costly() : 0;
}

void channel::share_budget(size_t n_costly) {
    if (writer_) {
        writer_->share_budget(n_costly);
    }
}

// The caller holds the mutex. True when the channel was clean.
bool channel::mark_dirty() {
    return !std::exchange(dirty_, true);
}

void channel::write(events & taken, session_sink & sink) {
    if (taken.start || !taken.progress.empty() || !taken.pieces.empty()) {
        start_writer(sink);
    }
    for (const prefill_progress & step : taken.progress) {
        writer_->progress(step, sink);
    }
    if (!taken.pieces.empty()) {
        write_pieces(taken.pieces, sink);
    }
    if (!taken.results.empty()) {
        write_results(taken, sink);
    }
    if (taken.failure) {
        if (started_) {
            writer_->fail(*taken.failure, sink);
        }
        end(std::move(taken.failure));
    } else if (n_ended_ == n_choices_) {
        writer_->end(sink);
        end(std::nullopt);
    }
}

void channel::write_pieces(std::vector<piece> & pieces, session_sink & sink) {
    if (n_choices_ == 1) {
        write_choice(0, pieces, sink);
        return;
    }
    std::vector<std::vector<piece>> by_choice(n_choices_);
    for (piece & each : pieces) {
        by_choice[static_cast<size_t>(each.choice)].push_back(std::move(each));
    }
    for (size_t i = 0; i < n_choices_; ++i) {
        if (!by_choice[i].empty()) {
            write_choice(static_cast<int32_t>(i), by_choice[i], sink);
        }
    }
}

// A choice that fails leaves the others alone. When none is left that did not fail, the request has failed.
void channel::write_results(events & taken, session_sink & sink) {
    n_ended_ += taken.results.size();
    n_failed_ += static_cast<size_t>(std::count_if(taken.results.begin(), taken.results.end(),
                                                   [](const generation_result & each) { return each.failure; }));
    if (n_failed_ == n_choices_) {
        taken.failure = taken.failure ? std::move(taken.failure) : std::move(taken.results.front().failure);
        return;
    }
    start_writer(sink);
    for (const generation_result & each : taken.results) {
        writer_->finish(each, sink);
    }
}

// Text in as few calls as the notes between it allow.
void channel::write_choice(int32_t choice, std::vector<piece> & pieces, session_sink & sink) {
    const auto is_note = [](const piece & each) { return each.control != nullptr; };
    auto next = std::find_if(pieces.begin(), pieces.end(), is_note);
    if (next == pieces.end()) {
        writer_->pieces(choice, pieces, sink);
        return;
    }
    for (auto begin = pieces.begin();; next = std::find_if(begin, pieces.end(), is_note)) {
        std::vector<piece> run(std::make_move_iterator(begin), std::make_move_iterator(next));
        if (!run.empty()) {
            writer_->pieces(choice, run, sink);
        }
        if (next == pieces.end()) {
            return;
        }
        writer_->control(choice, *next->control, sink);
        begin = std::next(next);
    }
}

// The writer threw. A client that has had bytes is told so, as far as the writer still can.
void channel::give_up(error reason, session_sink & sink) {
    if (started_) {
        try {
            writer_->fail(reason, sink);
        } catch (...) {
            sink.changed = true;  // the session's failure() is all there is
        }
    }
    end(std::move(reason));
}

void channel::start_writer(session_sink & sink) {
    if (!started_) {
        started_ = true;
        session_->start();
        writer_->start(sink);
    }
}

// The writer holds the parse state of the whole answer: it goes now, not with the last reader.
void channel::end(std::optional<error> failure) {
    finished_ = true;
    session_->finish(std::move(failure));
    writer_.reset();
}

}  // namespace pyllama
