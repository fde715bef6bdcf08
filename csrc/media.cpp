#include "media.h"

#include "errors.h"
#include "projector.h"

namespace pyllama {

media_chunk::media_chunk(std::shared_ptr<const projector> source, mtmd::input_chunk_ptr chunk, uint32_t nth)
    : source_(std::move(source)),
      chunk_(std::move(chunk)),
      causal_(!mtmd_decode_use_non_causal(source_->handle(), chunk_.get())),
      mrope_(mtmd_decode_use_mrope(source_->handle())) {
    const char * id = mtmd_input_chunk_get_id(chunk_.get());
    tokens_ =
        media_tokens(id != nullptr ? id : "", nth, static_cast<int32_t>(mtmd_input_chunk_get_n_tokens(chunk_.get())),
                     mtmd_input_chunk_get_n_pos(chunk_.get()));
}

void media_chunk::position(llama_pos first, int32_t row, llama_pos out[4]) const {
    const mtmd_image_tokens * image = mtmd_input_chunk_get_tokens_image(chunk_.get());
    if (!mrope_ || image == nullptr) {
        std::fill_n(out, 4, first + row);
        return;
    }
    const mtmd_decoder_pos at = mtmd_image_tokens_get_decoder_pos(image, first, static_cast<size_t>(row));
    out[0] = static_cast<llama_pos>(at.t);
    out[1] = static_cast<llama_pos>(at.y);
    out[2] = static_cast<llama_pos>(at.x);
    out[3] = static_cast<llama_pos>(at.z);
}

}  // namespace pyllama
