// A frame_writer that shows how it was called: "<start>", each piece's text in brackets, "<finish>" and the like.
#pragma once

#include <atomic>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "frame_writer.h"
#include "stream.h"

namespace pyllama_test {

// What a test sees of its writer, and how it makes it misbehave. Set it up before the writer is used.
struct writer_record {
    std::string throw_at;    // "start", "pieces", "finish", "fail" or "flush"
    bool hold_text = false;  // pieces() emits nothing: flush() and finish() do
    double flush_ms = 0;     // with hold_text: what flush_due_ms() says while text waits
    bool costly = false;
    std::atomic<size_t> n_sharing{0};  // what share_budget() said last
    std::atomic<int> n_flushes{0};
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

    void pieces(std::vector<pyllama::piece> & batch, pyllama::frame_sink & sink) override {
        for (const pyllama::piece & p : batch) {
            held_ += "[" + p.text + "]";
            if (!record_->hold_text) {
                emit(sink);
            }
        }
        throw_if("pieces");
    }

    void finish(const pyllama::generation_result &, pyllama::frame_sink & sink) override {
        throw_if("finish");
        emit(sink);
        sink.frame("<finish>");
    }

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

    bool is_costly() const override { return record_->costly; }
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

inline pyllama::piece text_piece(std::string text) {
    pyllama::piece p;
    p.text = std::move(text);
    return p;
}

// A channel with its writer and session, as a request has them.
struct recorded_channel {
    explicit recorded_channel(size_t capacity = 0)
        : record(std::make_shared<writer_record>()),
          session(std::make_shared<pyllama::stream_session>(capacity)),
          channel(std::make_shared<pyllama::channel>(std::make_unique<recording_writer>(record), session)) {}

    std::string bytes() const { return session->read(session->read(0, 0).first_offset, SIZE_MAX).bytes; }

    std::shared_ptr<writer_record> record;
    std::shared_ptr<pyllama::stream_session> session;
    std::shared_ptr<pyllama::channel> channel;
};

}  // namespace pyllama_test
