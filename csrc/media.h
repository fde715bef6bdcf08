// Media in a prompt: files that a client sent, the chunks that a projector makes of them, and where those stand among
// the prompt's tokens. A chunk is what is encoded at once: an image, or one of the tiles that a projector cuts it into.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "llama.h"
#include "media_token.h"
#include "mtmd.h"

namespace pyllama {

class projector;

struct media_file {
    std::string bytes;
    std::string field;  // of the request, for errors
};

// raw --queued--> queued --encoder thread--> ready or failed;  ready --its rows are in the cache--> raw
enum class media_state { raw, queued, ready, failed };

class media_chunk {
  public:
    using rows = std::shared_ptr<const std::vector<float>>;

    // Takes the chunk over. nth: as media_tokens() has it. Throws error(engine).
    media_chunk(std::shared_ptr<const projector> source, mtmd::input_chunk_ptr chunk, uint32_t nth);

    int32_t n_rows() const { return static_cast<int32_t>(tokens_.size()); }
    const std::vector<llama_token> & tokens() const { return tokens_; }
    // Its rows see each other in both directions: they are decoded in one ubatch.
    bool causal() const { return causal_; }
    // The positions of a row, when the chunk's first one is `first`: one, or four with M-RoPE.
    void position(llama_pos first, int32_t row, llama_pos out[4]) const;
    const projector & source() const { return *source_; }
    const mtmd_input_chunk * handle() const { return chunk_.get(); }

    media_state state() const { return state_.load(std::memory_order_acquire); }
    // Engine thread: before it goes to the encoder.
    void note_queued() { state_.store(media_state::queued, std::memory_order_relaxed); }
    // Encoder thread, while it is queued: its embeddings, n_embd_inp numbers each; null when they could not be made.
    void settle(rows made) {
        rows_ = std::move(made);
        state_.store(rows_ ? media_state::ready : media_state::failed, std::memory_order_release);
    }
    // Engine thread, once it is ready.
    const std::vector<float> & embeddings() const { return *rows_; }
    // Engine thread: they are not needed any more, or not soon.
    void forget() {
        if (state() == media_state::ready) {
            rows_.reset();
            state_.store(media_state::raw, std::memory_order_relaxed);
        }
    }

  private:
    std::shared_ptr<const projector> source_;
    mtmd::input_chunk_ptr chunk_;
    std::vector<llama_token> tokens_;
    bool causal_ = true;
    bool mrope_ = false;
    std::atomic<media_state> state_{media_state::raw};
    rows rows_;
};

struct media_span {
    int32_t begin = 0;  // the index of its first token
    std::shared_ptr<media_chunk> media;
    int32_t end() const { return begin + media->n_rows(); }
};

// A prompt's tokens, and the media that those below LLAMA_TOKEN_NULL stand for, in order.
struct media_prompt {
    std::vector<llama_token> tokens;
    std::vector<media_span> media;
};

}  // namespace pyllama
