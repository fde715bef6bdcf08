// Embeddings while they live in the engine: a request's inputs, and what the model made of them. An input has no slot
// of its own: it borrows an idle slot's sequence for one step and leaves nothing in it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "generation.h"
#include "llama.h"
#include "lora.h"
#include "prompt.h"

namespace pyllama {

// What a context can make embeddings of.
struct embedding_limits {
    bool enabled = false;  // --embeddings
    enum llama_pooling_type pooling = LLAMA_POOLING_TYPE_NONE;
    int32_t n_ctx = 0;       // tokens of one input
    int32_t n_ubatch = 0;    // tokens of one input that cannot be split
    bool can_split = false;  // an input's last token alone decides, so it may be decoded in parts
    bool media = false;      // an input may have images: it is decoded in parts that see what came before
};

// The rows of each input: one when they are pooled, else one for each token. Filled by the engine thread, read by the
// render thread once the channel has the result.
struct embedding_results {
    std::vector<std::vector<std::vector<float>>> rows;
};

// One input in one step.
struct embedding_part {
    const llama_tokens * tokens = nullptr;
    llama_seq_id sequence = 0;
    std::vector<std::vector<float>> rows;
    const std::vector<media_span> * media = nullptr;  // null for text alone
};

// One request. Made on the submitting thread, then the engine thread's alone; only `control` is shared.
struct embedding_task {
    embedding_task(prepared_request && prepared, const stream_limits & limits);

    bool done() const { return n_done == inputs.size(); }
    // Ends the stream. Exactly one of the two is called, once.
    void finish(renderer & render);
    void fail(error reason, renderer & render);

    std::string id;
    // The media of an input, null for text alone.
    const std::vector<media_span> * media_of(size_t input) const {
        return input < media.size() && !media[input].empty() ? &media[input] : nullptr;
    }

    std::vector<llama_tokens> inputs;
    std::vector<std::vector<media_span>> media;  // of each input, or empty
    std::shared_ptr<embedding_results> results;
    std::shared_ptr<channel> output;
    std::shared_ptr<generation_control> control;
    lora_set lora;
    size_t n_done = 0;  // inputs, in order
};

}  // namespace pyllama
