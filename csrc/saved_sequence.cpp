#include "saved_sequence.h"

#include "errors.h"
#include "log_sink.h"

namespace pyllama {

size_t saved_size(llama_context * ctx, const slot & slot) {
    return llama_state_seq_get_size_ext(ctx, slot.sequence, LLAMA_STATE_SEQ_FLAGS_NONE) + n_bytes(slot.checkpoints) +
           slot.cached.size() * sizeof(llama_token);
}

saved_sequence save_sequence(llama_context * ctx, const slot & slot) {
    saved_sequence saved{slot.cached.list(), slot.lora, slot.domain, slot.n_exact, {}, slot.checkpoints};
    saved.state.resize(llama_state_seq_get_size_ext(ctx, slot.sequence, LLAMA_STATE_SEQ_FLAGS_NONE));
    const size_t n = llama_state_seq_get_data_ext(ctx, saved.state.data(), saved.state.size(), slot.sequence,
                                                  LLAMA_STATE_SEQ_FLAGS_NONE);
    if (n != saved.state.size()) {
        throw error(error_kind::engine, "the slot's state could not be saved");
    }
    return saved;
}

bool load_sequence(llama_context * ctx, const saved_sequence & saved, slot & slot) {
    clear_cache(ctx, slot);
    const log_capture quiet;
    const size_t n = llama_state_seq_set_data_ext(ctx, saved.state.data(), saved.state.size(), slot.sequence,
                                                  LLAMA_STATE_SEQ_FLAGS_NONE);
    slot.cached.assign(saved.tokens.begin(), saved.tokens.end());
    slot.lora = saved.lora;
    slot.domain = saved.domain;
    slot.n_exact = saved.n_exact;
    slot.checkpoints = saved.checkpoints;
    if (n == saved.state.size() && holds_whole(ctx, slot)) {
        return true;
    }
    clear_cache(ctx, slot);
    return false;
}

}  // namespace pyllama
