// The multimodal projector (--mmproj): makes chunks of images, and embeddings of chunks, by mtmd. Immutable after load;
// any thread may tokenise, one thread at a time encodes.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "common.h"
#include "media.h"
#include "mtmd.h"

namespace pyllama {

class projector : public std::enable_shared_from_this<projector> {
  public:
    // The one that the flags name, for this model; null when they name none. Throws error(model_load).
    static std::shared_ptr<const projector> load(const llama_model * model, const common_params & params);

    // Bytes that it will take of each device. Any thread, before the load.
    static std::map<ggml_backend_dev_t, size_t> memory(const common_params & params);

    const mtmd_context * handle() const { return context_.get(); }
    bool reads_images() const { return mtmd_support_vision(context_.get()); }
    // What stands for a file in a text.
    const std::string & marker() const { return marker_; }
    // A number that differs between projectors and between flags that change what they make.
    uint64_t identity() const { return identity_; }

    // A file's chunks and the text that the model wants around them; only to be counted, the chunks have no pixels.
    // Throws error(invalid_request) naming its field.
    media_prompt read(const media_file & file, bool only_counted = false) const;

    // A text with as many markers as there are files, in whose place they stand, as tokens, with the model's special
    // tokens around it. Throws error(invalid_request) naming `field`.
    media_prompt place(const llama_vocab * vocab, const std::string & text, const std::vector<media_prompt> & files,
                       const std::string & field) const;

    // Both. What is longer than n_ctx tokens is refused before all of it is there: throws error(context_exceeded) too.
    media_prompt tokenize(const llama_vocab * vocab, const std::string & text, const std::vector<media_file> & files,
                          int32_t n_ctx, const std::string & field, bool only_counted = false) const;

    // Null when it fails. Encoder thread.
    media_chunk::rows encode(const media_chunk & chunk) const;

  private:
    projector() = default;
    mtmd::context_ptr context_;
    std::string marker_;
    uint64_t identity_ = 0;
    size_t n_embd_ = 0;
    mutable std::mutex reading_;  // files are decoded one at a time: an image may take some hundred MB for a moment
};

}  // namespace pyllama
