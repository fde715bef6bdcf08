// The context as it makes embeddings. Engine thread.

#include <algorithm>

#include "decoder.h"

namespace pyllama {

bool decoder::has_memory() const {
    return llama_get_memory(context_.get()) != nullptr;
}

embedding_limits decoder::embeddings() const {
    embedding_limits limits;
    limits.enabled = embedding_;
    limits.pooling = llama_pooling_type(context_.get());
    limits.n_ctx = n_ctx_slot_;
    limits.n_ubatch = n_ubatch();
    limits.can_split =
        has_memory() && (limits.pooling == LLAMA_POOLING_TYPE_LAST ||
                         (limits.pooling == LLAMA_POOLING_TYPE_RANK && llama_get_causal_attn(context_.get())));
    limits.media = has_memory() && llama_get_causal_attn(context_.get()) && limits.pooling != LLAMA_POOLING_TYPE_RANK;
    return limits;
}

void decoder::put_out(bool embeddings) {
    if (embeddings_ != embeddings) {
        llama_set_embeddings(context_.get(), embeddings);
        embeddings_ = embeddings;
    }
}

// Each ubatch overwrites the sequence's embedding: the last token's is left.
decode_status decoder::embed_split(const embedding_part & part) {
    const llama_tokens & tokens = *part.tokens;
    for (size_t begin = 0; begin < tokens.size();) {
        const size_t end = std::min(begin + static_cast<size_t>(n_ubatch()), tokens.size());
        llama_batch_ext_clear(batch_.get());
        for (; begin < end; ++begin) {
            if (!add(part.sequence, tokens[begin], static_cast<llama_pos>(begin), true)) {
                return decode_status::failed;
            }
        }
        const decode_status status = process();
        if (status != decode_status::ok) {
            return status;
        }
    }
    return decode_status::ok;
}

void decoder::take_rows(std::vector<embedding_part> & parts) const {
    const enum llama_pooling_type pooling = llama_pooling_type(context_.get());
    const llama_model * model = llama_get_model(context_.get());
    const size_t n_row = pooling == LLAMA_POOLING_TYPE_RANK ? llama_model_n_cls_out(model)
                                                            : static_cast<size_t>(llama_model_n_embd_out(model));
    const auto copy = [n_row](const float * row) {
        return row != nullptr ? std::vector<float>(row, row + n_row) : std::vector<float>(n_row);
    };
    int32_t index = 0;
    for (embedding_part & part : parts) {
        if (pooling != LLAMA_POOLING_TYPE_NONE) {
            part.rows = {copy(llama_get_embeddings_seq(context_.get(), part.sequence))};
            continue;
        }
        for (size_t i = 0; i < part.tokens->size(); ++i) {
            part.rows.push_back(copy(llama_get_embeddings_ith(context_.get(), index++)));
        }
    }
}

decode_status decoder::embed(std::vector<embedding_part> & parts) {
    put_out(true);
    decode_status status = decode_status::ok;
    const bool has_media = parts.front().media != nullptr;  // then it is alone
    if (has_media) {
        status = embed_media(parts.front());
    } else if (parts.size() == 1) {
        status = embed_split(parts.front());
    } else {
        llama_batch_ext_clear(batch_.get());
        for (const embedding_part & part : parts) {
            for (size_t i = 0; i < part.tokens->size(); ++i) {
                if (!add(part.sequence, (*part.tokens)[i], static_cast<llama_pos>(i), true)) {
                    return decode_status::failed;  // the memory is as it was
                }
            }
        }
        status = process();
    }
    if (status == decode_status::ok && !has_media) {
        take_rows(parts);
    }
    for (const embedding_part & part : parts) {
        llama_memory_seq_rm(llama_get_memory(context_.get()), part.sequence, -1, -1);
    }
    return status;
}

}  // namespace pyllama
