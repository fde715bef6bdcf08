#include "checkpoint.h"

#include <algorithm>

#include "log_sink.h"

namespace pyllama {

bool has_states(const llama_context * ctx) {
    const llama_model * model = llama_get_model(ctx);
    return llama_model_is_recurrent(model) || llama_model_is_hybrid(model);
}

bool has_plain_attention(const llama_context * ctx) {
    const llama_model * model = llama_get_model(ctx);
    const llama_rope_type rope = llama_model_rope_type(model);
    return !has_states(ctx) && llama_model_n_swa(model) == 0 && rope != LLAMA_ROPE_TYPE_MROPE &&
           rope != LLAMA_ROPE_TYPE_IMROPE && rope != LLAMA_ROPE_TYPE_VISION;
}

bool needs_checkpoints(const llama_context * ctx, bool swa_full) {
    return has_states(ctx) || (!swa_full && llama_model_n_swa(llama_get_model(ctx)) > 0);
}

size_t checkpoint_size(llama_context * ctx, llama_seq_id sequence) {
    return llama_state_seq_get_size_ext(ctx, sequence, LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY);
}

void add_checkpoint(llama_context * ctx, llama_seq_id sequence, int32_t n, size_t most,
                    const std::shared_ptr<byte_budget> & budget, std::vector<checkpoint> & checkpoints) {
    drop_checkpoints_after(checkpoints, n - 1);
    if (most == 0) {
        return;
    }
    if (checkpoints.size() >= most) {
        checkpoints.erase(checkpoints.begin(), checkpoints.end() - static_cast<std::ptrdiff_t>(most - 1));
    }
    llama_memory_t memory = llama_get_memory(ctx);
    checkpoint made;
    made.n_tokens = n;
    made.pos_min = llama_memory_seq_pos_min(memory, sequence);
    made.pos_max = llama_memory_seq_pos_max(memory, sequence);
    std::vector<uint8_t> state(checkpoint_size(ctx, sequence));
    if (llama_state_seq_get_data_ext(ctx, state.data(), state.size(), sequence, LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY) ==
        state.size()) {
        made.data = shared_bytes(std::move(state));
        made.data.charge(budget, memory_part::checkpoints);
        checkpoints.push_back(std::move(made));
    }
}

bool load_checkpoint(llama_context * ctx, llama_seq_id sequence, const checkpoint & saved) {
    const log_capture quiet;
    return llama_state_seq_set_data_ext(ctx, saved.data.data(), saved.data.size(), sequence,
                                        LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY) == saved.data.size();
}

void drop_checkpoints_after(std::vector<checkpoint> & checkpoints, int32_t n) {
    checkpoints.erase(std::remove_if(checkpoints.begin(), checkpoints.end(),
                                     [n](const checkpoint & each) { return each.n_tokens > n; }),
                      checkpoints.end());
}

size_t n_bytes(const std::vector<checkpoint> & checkpoints) {
    size_t n = 0;
    for (const checkpoint & each : checkpoints) {
        n += each.data.size();
    }
    return n;
}

}  // namespace pyllama
