#include "slot.h"

#include <algorithm>

namespace pyllama {

slot_state slot::state() const {
    if (!running) {
        return reserved_for != nullptr ? slot_state::reserved : slot_state::idle;
    }
    if (running->rests()) {
        return slot_state::paused;
    }
    return prefilling() ? slot_state::prefill : slot_state::decode;
}

bool slot::prefilling() const {
    return running && n_pending() > running->n_fresh();
}

int32_t slot::n_pending() const {
    return static_cast<int32_t>(running->tokens().size() - cached.size());
}

int32_t slot::common_prefix(const std::vector<llama_token> & tokens) const {
    const size_t most = std::min(tokens.size(), cached.size());
    const auto end = std::mismatch(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(most), cached.begin());
    return static_cast<int32_t>(end.first - tokens.begin());
}

void clear_cache(llama_context * ctx, slot & slot) {
    llama_memory_seq_rm(llama_get_memory(ctx), slot.sequence, -1, -1);
    slot.cached.clear();
    slot.sharing = 0;
    slot.n_shared = 0;
}

namespace {

// seq_rm never refuses on sliding-window caches, it leaves the window missing; recurrent states have no past.
// So what the memory says of the sequence decides, not what seq_rm returned.
bool prefix_is_whole(llama_context * ctx, llama_seq_id sequence, int32_t n) {
    const llama_model * model = llama_get_model(ctx);
    llama_memory_t memory = llama_get_memory(ctx);
    if (llama_memory_seq_pos_max(memory, sequence) != n - 1) {
        return false;
    }
    const llama_pos oldest = llama_memory_seq_pos_min(memory, sequence);
    if (llama_model_is_recurrent(model) || llama_model_is_hybrid(model)) {
        return oldest == n - 1;
    }
    const int32_t n_swa = llama_model_n_swa(model);
    return n_swa > 0 ? oldest <= std::max(0, n - n_swa - 1) : oldest == 0;
}

}  // namespace

int32_t keep_prefix(llama_context * ctx, slot & slot, int32_t n) {
    if (n <= 0) {
        clear_cache(ctx, slot);
        return 0;
    }
    if (static_cast<size_t>(n) < slot.cached.size() &&
        !llama_memory_seq_rm(llama_get_memory(ctx), slot.sequence, n, -1)) {
        clear_cache(ctx, slot);
        return 0;
    }
    if (!prefix_is_whole(ctx, slot.sequence, n)) {
        clear_cache(ctx, slot);
        return 0;
    }
    slot.cached.resize(static_cast<size_t>(n));
    slot.n_shared = std::min(slot.n_shared, n);
    return n;
}

bool copy_cache(llama_context * ctx, const slot & from, slot & to) {
    // The whole sequence: of separate streams a part of one cannot be copied.
    llama_memory_seq_cp(llama_get_memory(ctx), from.sequence, to.sequence, -1, -1);
    if (!prefix_is_whole(ctx, to.sequence, static_cast<int32_t>(from.cached.size()))) {
        clear_cache(ctx, to);
        return false;
    }
    to.cached = from.cached;
    return true;
}

}  // namespace pyllama
