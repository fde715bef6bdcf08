// A frame_writer that shows how it was called: "<start>", each piece's text in brackets, "<finish>" and the like.
// What is of a choice other than the first has its number.
#pragma once

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "channel.h"
#include "frame_writer.h"

namespace pyllama_test {

// What a test sees of its writer, and how it makes it misbehave. Set it up before the writer is used.
struct writer_record {
    std::string throw_at;    // "start", "pieces", "finish", "fail" or "flush"
    bool hold_text = false;  // pieces() emits nothing: flush() and finish() do
    double flush_ms = 0;     // with hold_text: what flush_due_ms() says while text waits
    size_t n_costly = 0;
    std::atomic<size_t> n_sharing{0};  // what share_budget() said last
    std::atomic<int> n_flushes{0};
    std::atomic<int> n_ends{0};
    std::atomic<bool> destroyed{false};
};

class recording_writer : public pyllama::frame_writer {
  public:
    explicit recording_writer(std::shared_ptr<writer_record> record) : record_(std::move(record)) {}
    ~recording_writer() override { record_->destroyed = true; }

    void start(pyllama::frame_sink & sink) override {
        sink.frame("<start>");
        throw_if("start");
    }

    void progress(const pyllama::prefill_progress & progress, pyllama::frame_sink & sink) override {
        sink.frame("<" + std::to_string(progress.n_processed) + " of " + std::to_string(progress.n_total) + ">");
    }

    void pieces(int32_t choice, std::vector<pyllama::piece> & batch, pyllama::frame_sink & sink) override {
        for (const pyllama::piece & p : batch) {
            held_ += "[" + (choice > 0 ? std::to_string(choice) + ":" : "") + p.text + "]";
            if (!record_->hold_text) {
                emit(sink);
            }
        }
        throw_if("pieces");
    }

    void finish(const pyllama::generation_result & result, pyllama::frame_sink & sink) override {
        throw_if("finish");
        emit(sink);
        std::string text = result.failure ? std::string("<failure ") + result.failure->what() : "<finish";
        text += result.choice > 0 ? " " + std::to_string(result.choice) : "";
        sink.frame(text + ">");
    }

    void end(pyllama::frame_sink &) override { record_->n_ends++; }

    void fail(const pyllama::error & reason, pyllama::frame_sink & sink) override {
        throw_if("fail");
        sink.frame(std::string("<fail ") + reason.what() + ">");
    }

    double flush_due_ms() const override { return held_.empty() ? -1 : record_->flush_ms; }

    void flush(pyllama::frame_sink & sink) override {
        record_->n_flushes++;
        throw_if("flush");
        emit(sink);
    }

    size_t n_costly() const override { return record_->n_costly; }
    void share_budget(size_t n) override { record_->n_sharing = n; }

    std::string_view content_type() const override { return "text/event-stream"; }

  private:
    void emit(pyllama::frame_sink & sink) {
        if (!held_.empty()) {
            sink.frame(std::exchange(held_, {}));
        }
    }

    void throw_if(const char * where) const {
        if (record_->throw_at == where) {
            throw std::runtime_error(std::string("thrown by ") + where);
        }
    }

    std::shared_ptr<writer_record> record_;
    std::string held_;
};

inline pyllama::piece text_piece(std::string text, int32_t choice = 0) {
    pyllama::piece p;
    p.choice = choice;
    p.text = std::move(text);
    return p;
}

inline pyllama::generation_result result_of(int32_t choice, std::optional<pyllama::error> failure = std::nullopt) {
    pyllama::generation_result result;
    result.choice = choice;
    result.failure = std::move(failure);
    return result;
}

// A channel with its writer and session, as a request has them.
struct recorded_channel {
    explicit recorded_channel(size_t capacity = 0, int32_t n_choices = 1)
        : record(std::make_shared<writer_record>()),
          session(std::make_shared<pyllama::stream_session>(capacity)),
          channel(std::make_shared<pyllama::channel>(std::make_unique<recording_writer>(record), session, n_choices)) {}

    std::string bytes() const { return session->read(session->read(0, 0).first_offset, SIZE_MAX).slice.text(); }

    std::shared_ptr<writer_record> record;
    std::shared_ptr<pyllama::stream_session> session;
    std::shared_ptr<pyllama::channel> channel;
};

}  // namespace pyllama_test
