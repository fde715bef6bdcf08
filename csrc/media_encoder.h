// Makes embeddings of media on a thread of its own, one chunk at a time, in the order in which they were asked for:
// others' tokens go on meanwhile. What was made lately is kept, up to a number of bytes: an image that comes again, as
// each turn of a conversation sends it, is encoded once.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>

#include "media.h"
#include "thread.h"

namespace pyllama {

class media_encoder {
  public:
    static constexpr size_t most_kept_bytes = size_t{128} << 20;

    // done: called on the encoder's thread after each chunk.
    explicit media_encoder(std::function<void()> done);
    ~media_encoder();  // waits for the chunk that is being encoded
    media_encoder(const media_encoder &) = delete;
    media_encoder & operator=(const media_encoder &) = delete;

    // Settles the chunk some time later, unless nobody else holds it by then. Any thread.
    void push(std::shared_ptr<media_chunk> chunk);

    // Gives the memory away that is not in use. Any thread.
    void forget();

    uint64_t n_encoded() const { return n_encoded_; }

  private:
    struct kept_rows {
        const projector * source;
        std::vector<llama_token> tokens;  // what they are known by
        media_chunk::rows rows;
    };

    void run();
    media_chunk::rows rows_of(const media_chunk & chunk);
    media_chunk::rows find(const media_chunk & chunk);
    void keep(const media_chunk & chunk, const media_chunk::rows & rows);

    std::function<void()> done_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::shared_ptr<media_chunk>> queue_;
    std::list<kept_rows> kept_;  // most recently used last
    size_t n_kept_bytes_ = 0;
    bool stopping_ = false;
    std::atomic<uint64_t> n_encoded_{0};
    named_thread thread_;
};

}  // namespace pyllama
