// Steps that decode rows of embeddings instead of tokens: the media in a prompt, and in an input for embeddings.

#include <algorithm>

#include "decoder.h"
#include "generation.h"
#include "media_token.h"

namespace pyllama {

// Rows of a chunk as the next entries of the batch. tokens: of the whole sequence.
bool decoder::add_rows(const media_span & span, const llama_tokens & tokens, llama_seq_id sequence, int32_t begin,
                       int32_t end, bool outputs) {
    const std::vector<float> & rows = span.media->embeddings();
    const size_t n_embd = rows.size() / static_cast<size_t>(span.media->n_rows());
    const llama_pos first = n_positions(tokens, static_cast<size_t>(span.begin));
    for (int32_t i = begin; i < end; ++i) {
        const int32_t row = i - span.begin;
        const llama_embd embedding = {rows.data() + static_cast<size_t>(row) * n_embd, 1, n_embd};
        const int32_t index = llama_batch_ext_add_embd(batch_.get(), sequence, embedding);
        if (index < 0) {
            last_code_ = index;
            return false;
        }
        llama_pos position[4];
        span.media->position(first, row, position);
        llama_batch_ext_set_pos(batch_.get(), index, position);
        llama_batch_ext_set_output_logits(batch_.get(), index, outputs);
    }
    return true;
}

decode_status decoder::process(const media_chunk & media) {
    if (!media.causal()) {
        llama_set_causal_attn(context_.get(), false);
    }
    const decode_status status = process();
    if (!media.causal()) {
        llama_set_causal_attn(context_.get(), true);
    }
    return status;
}

decode_status decoder::decode_media(const chunk & part, const media_span & span) {
    const int32_t n = part.end - part.begin;
    llama_batch_ext_clear(batch_.get());
    if (!add_rows(span, part.target->running->tokens(), part.target->sequence, part.begin, part.end, false)) {
        return decode_status::failed;
    }
    llama_batch_ext_set_output_logits(batch_.get(), n - 1, part.wants_logits);
    const decode_status status = process(*span.media);
    if (status == decode_status::ok && part.wants_logits) {
        rows_[0] = llama_get_logits_ith(context_.get(), n - 1);
    }
    return status;
}

namespace {

// Puts together what pooling makes of the parts of an input.
void pool(enum llama_pooling_type pooling, const float * row, size_t n_row, float share,
          std::vector<std::vector<float>> & rows) {
    std::vector<float> part(row, row + n_row);
    if (rows.empty()) {
        rows.emplace_back(n_row, 0.0F);
        if (pooling == LLAMA_POOLING_TYPE_CLS) {
            rows.front() = part;
        }
    }
    if (pooling == LLAMA_POOLING_TYPE_LAST) {
        rows.front() = part;
    } else if (pooling == LLAMA_POOLING_TYPE_MEAN) {
        std::transform(part.begin(), part.end(), rows.front().begin(), rows.front().begin(),
                       [share](float value, float sum) { return sum + share * value; });
    }
}

}  // namespace

// An input with media: text and chunks one after the other, each of which sees what is in front of it.
decode_status decoder::embed_media(embedding_part & part) {
    const llama_tokens & tokens = *part.tokens;
    const enum llama_pooling_type pooling = llama_pooling_type(context_.get());
    const auto n_row = static_cast<size_t>(llama_model_n_embd_out(llama_get_model(context_.get())));
    const auto n = static_cast<int32_t>(tokens.size());
    auto next = part.media->begin();
    for (int32_t begin = 0; begin < n;) {
        const bool is_text = next == part.media->end() || begin < next->begin;
        const int32_t most = is_text ? (next == part.media->end() ? n : next->begin) : next->end();
        const int32_t end = !is_text && !next->media->causal() ? most : std::min(most, begin + n_ubatch());
        llama_batch_ext_clear(batch_.get());
        bool added = true;
        if (is_text) {
            llama_pos position = n_positions(tokens, static_cast<size_t>(begin));
            for (int32_t i = begin; i < end; ++i, ++position) {
                added = added && add(part.sequence, tokens[static_cast<size_t>(i)], position, true);
            }
        } else {
            added = add_rows(*next, tokens, part.sequence, begin, end, true);
        }
        const decode_status status = !added ? decode_status::failed : is_text ? process() : process(*next->media);
        if (status != decode_status::ok) {
            return status;
        }
        if (pooling == LLAMA_POOLING_TYPE_NONE) {
            for (int32_t i = 0; i < end - begin; ++i) {
                const float * row = llama_get_embeddings_ith(context_.get(), i);
                part.rows.emplace_back(row, row + n_row);
            }
        } else {
            const float share = static_cast<float>(end - begin) / static_cast<float>(n);
            pool(pooling, llama_get_embeddings_seq(context_.get(), part.sequence), n_row, share, part.rows);
        }
        begin = end;
        next += !is_text && begin == next->end() ? 1 : 0;
    }
    return decode_status::ok;
}

}  // namespace pyllama
