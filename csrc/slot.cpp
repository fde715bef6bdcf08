#include "slot.h"

#include <algorithm>

namespace pyllama {

int32_t common_prefix(const std::vector<llama_token> & a, const std::vector<llama_token> & b) {
    const auto most = static_cast<std::ptrdiff_t>(std::min(a.size(), b.size()));
    return static_cast<int32_t>(std::mismatch(a.begin(), a.begin() + most, b.begin()).first - a.begin());
}

slot_state slot::state() const {
    if (!running) {
        return reserved_for != nullptr ? slot_state::reserved : slot_state::idle;
    }
    if (running->rests()) {
        return slot_state::paused;
    }
    if (awaited.from != nullptr) {
        return slot_state::waiting;
    }
    return prefilling() ? slot_state::prefill : slot_state::decode;
}

bool slot::prefilling() const {
    return running && n_pending() > running->n_fresh();
}

int32_t slot::n_pending() const {
    return static_cast<int32_t>(running->tokens().size() - cached.size());
}

int32_t slot::usable_prefix(const generation & next) const {
    if (!next.params().cache_prompt || !same_set(lora, next.params().lora)) {
        return 0;
    }
    return std::min(common_prefix(next.tokens(), cached.list()), n_exact);
}

void clear_cache(llama_context * ctx, slot & slot) {
    llama_memory_seq_rm(llama_get_memory(ctx), slot.sequence, -1, -1);
    slot.cached.keep(0);
    slot.checkpoints.clear();
    slot.n_exact = slot::all_exact;
    slot.unsettled = false;
}

namespace {

// seq_rm never refuses on sliding-window caches, it leaves the window missing; recurrent states have no past.
// So what the memory says of the sequence decides, not what seq_rm returned.
bool prefix_is_whole(llama_context * ctx, llama_seq_id sequence, int32_t n) {
    llama_memory_t memory = llama_get_memory(ctx);
    if (llama_memory_seq_pos_max(memory, sequence) != n - 1) {
        return false;
    }
    const llama_pos oldest = llama_memory_seq_pos_min(memory, sequence);
    if (has_states(ctx)) {
        return oldest == n - 1;
    }
    const int32_t n_swa = llama_model_n_swa(llama_get_model(ctx));
    return n_swa > 0 ? oldest <= std::max(0, n - n_swa) : oldest == 0;
}

// Whether the sequence can be cut to its first n tokens without a checkpoint.
bool can_cut(llama_context * ctx, const slot & slot, int32_t n) {
    if (static_cast<size_t>(n) == slot.cached.size()) {
        return true;
    }
    const llama_pos oldest = llama_memory_seq_pos_min(llama_get_memory(ctx), slot.sequence);
    const int32_t n_swa = llama_model_n_swa(llama_get_model(ctx));
    return !has_states(ctx) && (n_swa == 0 || oldest <= std::max(0, n - n_swa - 1));
}

bool cut(llama_context * ctx, slot & slot, int32_t n) {
    if (static_cast<size_t>(n) < slot.cached.size() &&
        !llama_memory_seq_rm(llama_get_memory(ctx), slot.sequence, n, -1)) {
        return false;
    }
    if (!prefix_is_whole(ctx, slot.sequence, n)) {
        return false;
    }
    slot.cached.keep(static_cast<size_t>(n));
    drop_checkpoints_after(slot.checkpoints, n);
    return true;
}

// Of the checkpoints within the first n tokens, the last that loads.
int32_t go_back(llama_context * ctx, slot & slot, int32_t n) {
    drop_checkpoints_after(slot.checkpoints, n);
    while (!slot.checkpoints.empty()) {
        const int32_t kept = slot.checkpoints.back().n_tokens;
        if (load_checkpoint(ctx, slot.sequence, slot.checkpoints.back()) && cut(ctx, slot, kept)) {
            return kept;
        }
        slot.checkpoints.pop_back();
    }
    return 0;
}

}  // namespace

int32_t keep_prefix(llama_context * ctx, slot & slot, int32_t n) {
    if (n > 0 && can_cut(ctx, slot, n) && cut(ctx, slot, n)) {
        return n;
    }
    const int32_t kept = n > 0 ? go_back(ctx, slot, n) : 0;
    if (kept == 0) {
        clear_cache(ctx, slot);
    }
    return kept;
}

bool holds_whole(llama_context * ctx, const slot & slot) {
    return slot.cached.empty() || prefix_is_whole(ctx, slot.sequence, static_cast<int32_t>(slot.cached.size()));
}

namespace {

bool take_copy(llama_context * ctx, const slot & from, slot & to) {
    if (!holds_whole(ctx, to)) {
        clear_cache(ctx, to);
        return false;
    }
    to.lora = from.lora;
    to.n_exact = from.n_exact;
    return true;
}

}  // namespace

bool copy_cache(llama_context * ctx, const slot & from, slot & to, bool shared) {
    // The whole sequence: of separate streams a part of one cannot be copied.
    llama_memory_seq_cp(llama_get_memory(ctx), from.sequence, to.sequence, -1, -1);
    if (shared) {
        to.cached.share(from.cached, from.cached.size());
    } else {
        to.cached.assign(from.cached.list().begin(), from.cached.list().end());
    }
    return take_copy(ctx, from, to);
}

int32_t whole_prefix(const slot & from, int32_t n) {
    if (static_cast<size_t>(n) == from.cached.size()) {
        return n;
    }
    int32_t longest = 0;
    for (const checkpoint & each : from.checkpoints) {
        longest = each.n_tokens <= n ? each.n_tokens : longest;
    }
    return longest;
}

int32_t share_prefix(llama_context * ctx, const slot & from, slot & to, int32_t n, bool parts) {
    if (!parts) {
        if (!copy_cache(ctx, from, to, true)) {
            return 0;
        }
        to.checkpoints = from.checkpoints;
        return keep_prefix(ctx, to, n);
    }
    llama_memory_seq_cp(llama_get_memory(ctx), from.sequence, to.sequence, 0, n);
    to.cached.share(from.cached, static_cast<size_t>(n));
    return take_copy(ctx, from, to) ? n : 0;
}

}  // namespace pyllama
