// The llama_context as the slot loop uses it: one batch of chunks in, rows of logits out. Made, used and
// destroyed on the engine thread (OpenMP keeps one team of workers per thread that starts one).
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "common.h"
#include "embedding.h"
#include "llama-cpp.h"
#include "model.h"
#include "scheduler.h"

namespace pyllama {

enum class decode_status {
    ok,
    no_room,  // nothing changed: the KV cache has no room for the whole batch
    failed,   // parts may have been decoded: resynchronise every slot
};

class decoder {
  public:
    // Throws error(model_load) when the context cannot be made (memory, unsupported options).
    decoder(const model & model, const common_params & params);
    virtual ~decoder() = default;

    llama_context * context() const { return context_.get(); }
    int32_t n_ctx() const;  // cells of the whole KV cache
    int32_t n_ctx_slot() const { return n_ctx_slot_; }
    int32_t n_ubatch() const;
    bool unified() const { return unified_; }
    bool alternate() const { return alternate_; }  // see schedule_limits
    // Whether sequences may be copied. Shared cells of a sliding window are never used again, and it has few.
    bool can_copy() const { return can_copy_; }
    // Whether a sequence can take a part of another one's cells: a unified cache with entries for every token. With a
    // sliding window, what seems to be a whole prefix may have holes.
    bool can_share() const { return can_share_; }
    // Whether a full context drops tokens and goes on: --context-shift, where the memory can.
    bool shifts() const { return shifts_; }
    // Whether chunks of a cached prompt may be moved (n_cache_reuse).
    bool moves_chunks() const { return moves_chunks_; }
    // How many checkpoints a slot keeps; 0 where the memory can be rolled back without.
    int32_t n_checkpoints() const { return n_checkpoints_; }
    int32_t n_threads() const { return n_threads_; }

    // Decodes the chunks of one step, at most n_ubatch tokens of slots with the same LoRA set, or
    // rows of one chunk of media. Afterwards row(i) is
    // valid for each chunk that wants logits, until the next call.
    virtual decode_status decode(const std::vector<chunk> & plan);
    const float * row(size_t chunk_index) const { return rows_[chunk_index]; }

    // Makes the copies between streams that llama.cpp leaves to the next decode, by one of a single token. `sequence`
    // must be empty, and is empty again afterwards.
    void settle(llama_seq_id sequence);

    // Sets the LoRA adapters of the steps that follow.
    void use(const lora_set & set);

    // Makes embeddings of whole inputs: at most n_ubatch tokens, or a single input that may be split. The sequences
    // must be empty, and are empty again afterwards.
    virtual decode_status embed(std::vector<embedding_part> & parts);
    embedding_limits embeddings() const;
    bool has_memory() const;  // without, the model is an encoder: it makes embeddings and nothing else
    int32_t last_code() const { return last_code_; }

  private:
    decode_status decode_media(const chunk & part, const media_span & span);  // decoder_media.cpp
    void warm_up(const model & model);
    bool add(llama_seq_id sequence, llama_token token, llama_pos position, bool output);
    decode_status process();
    void wake_team();
    void put_out(bool embeddings);
    decode_status embed_split(const embedding_part & part);
    bool add_rows(const media_span & span, const llama_tokens & tokens, llama_seq_id sequence, int32_t begin,
                  int32_t end, bool outputs);  // decoder_media.cpp
    decode_status process(const media_chunk & media);
    decode_status embed_media(embedding_part & part);
    void take_rows(std::vector<embedding_part> & parts) const;

    const common_params & params_;  // the model's
    lora_set lora_;                 // what is set on the context
    // Destroyed in reverse: the context before the thread pools that it uses.
    common_threadpools threadpools_;
    llama_context_ptr context_;
    llama_batch_ext_ptr batch_;
    std::vector<const float *> rows_;
    int32_t n_ctx_slot_ = 0;
    int32_t n_threads_ = 1;
    bool spreads_ = false;  // a team of one size computes all of the model
    std::chrono::steady_clock::time_point processed_;
    int32_t last_code_ = 0;
    bool embeddings_ = false;  // what the context puts out at the moment
    bool embedding_ = false;   // --embeddings
    bool unified_ = false;
    bool alternate_ = false;
    bool can_copy_ = true;
    bool can_share_ = false;
    bool shifts_ = false;
    bool moves_chunks_ = false;
    int32_t n_checkpoints_ = 0;
};

}  // namespace pyllama
