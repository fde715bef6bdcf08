#include "media_encoder.h"

#include <algorithm>
#include <exception>

#include "log_sink.h"
#include "projector.h"

namespace pyllama {

namespace {

size_t n_bytes(const media_chunk::rows & rows) {
    return rows->size() * sizeof(float);
}

}  // namespace

media_encoder::media_encoder(std::function<void()> done) : done_(std::move(done)) {
    thread_options options;
    options.name = "pyllama-media";
    thread_ = named_thread(options, [this] { run(); });
}

media_encoder::~media_encoder() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stopping_ = true;
        queue_.clear();
    }
    wake_.notify_one();
    thread_.join();
}

void media_encoder::push(std::shared_ptr<media_chunk> chunk) {
    chunk->note_queued();
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        queue_.push_back(std::move(chunk));
    }
    wake_.notify_one();
}

void media_encoder::forget() {
    const std::lock_guard<std::mutex> lock(mutex_);
    kept_.clear();
    n_kept_bytes_ = 0;
}

void media_encoder::run() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (true) {
        wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
        if (stopping_) {
            return;
        }
        std::shared_ptr<media_chunk> next = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        if (next.use_count() > 1) {  // else its requests have ended
            next->settle(rows_of(*next));
            done_();
        }
        next.reset();
        lock.lock();
    }
}

media_chunk::rows media_encoder::rows_of(const media_chunk & chunk) {
    try {
        if (media_chunk::rows found = find(chunk)) {
            return found;
        }
        media_chunk::rows made = chunk.source().encode(chunk);
        ++n_encoded_;
        if (made) {
            keep(chunk, made);
        }
        return made;
    } catch (const std::exception & reason) {
        log_text(log_level::error, std::string("an image could not be encoded: ") + reason.what());
        return nullptr;
    }
}

media_chunk::rows media_encoder::find(const media_chunk & chunk) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = std::find_if(kept_.begin(), kept_.end(), [&](const kept_rows & each) {
        return each.source == &chunk.source() && each.tokens == chunk.tokens();
    });
    if (found == kept_.end()) {
        return nullptr;
    }
    kept_.splice(kept_.end(), kept_, found);
    return found->rows;
}

void media_encoder::keep(const media_chunk & chunk, const media_chunk::rows & rows) {
    const std::lock_guard<std::mutex> lock(mutex_);
    kept_.push_back({&chunk.source(), chunk.tokens(), rows});
    n_kept_bytes_ += n_bytes(rows);
    while (n_kept_bytes_ > most_kept_bytes) {
        n_kept_bytes_ -= n_bytes(kept_.front().rows);
        kept_.pop_front();
    }
}

}  // namespace pyllama
