#include "slot.h"

#include <algorithm>

#include "media_token.h"

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
    if (const media_span * next = next_media(); next != nullptr && next->media->state() != media_state::ready) {
        return slot_state::encoding;
    }
    return prefilling() ? slot_state::prefill : slot_state::decode;
}

bool slot::prefilling() const {
    return running && n_pending() > running->n_fresh();
}

int32_t slot::n_pending() const {
    return static_cast<int32_t>(running->tokens().size() - cached.size());
}

const media_span * slot::next_media() const {
    const auto at = static_cast<int32_t>(cached.size());
    for (const media_span & each : running->media()) {
        if (each.begin <= at && at < each.end()) {
            return &each;
        }
    }
    return nullptr;
}

int32_t slot::n_alike() const {
    const auto at = static_cast<int32_t>(cached.size());
    for (const media_span & each : running->media()) {
        if (at < each.begin) {
            return each.begin - at;
        }
        if (at < each.end()) {
            return each.end() - at;
        }
    }
    return n_pending();
}

int32_t slot::usable_prefix(const generation & next) const {
    if (!next.params().cache_prompt || !same_origin(*this, next.params())) {
        return 0;
    }
    return without_cut_media(next.tokens(), std::min(common_prefix(next.tokens(), cached.list()), n_exact));
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
bool prefix_is_whole(llama_context * ctx, const slot & slot, int32_t n) {
    llama_memory_t memory = llama_get_memory(ctx);
    const auto & tokens = slot.cached.list();
    const llama_pos end = n_positions(tokens, static_cast<size_t>(n));
    // With M-RoPE all rows of an image may be at its first position.
    auto last = static_cast<size_t>(n) - 1;
    while (is_media(tokens[last]) && !begins_media(tokens[last])) {
        --last;
    }
    const llama_pos least = n_positions(tokens, last + 1) - 1;
    const auto is_last = [&](llama_pos position) { return position >= least && position <= std::max(least, end - 1); };
    if (!is_last(llama_memory_seq_pos_max(memory, slot.sequence))) {
        return false;
    }
    const llama_pos oldest = llama_memory_seq_pos_min(memory, slot.sequence);
    if (has_states(ctx)) {
        return is_last(oldest);
    }
    const int32_t n_swa = llama_model_n_swa(llama_get_model(ctx));
    return n_swa > 0 ? oldest <= std::max(0, end - n_swa) : oldest == 0;
}

// Whether the sequence can be cut to its first n tokens without a checkpoint.
bool can_cut(llama_context * ctx, const slot & slot, int32_t n) {
    if (static_cast<size_t>(n) == slot.cached.size()) {
        return true;
    }
    const llama_pos oldest = llama_memory_seq_pos_min(llama_get_memory(ctx), slot.sequence);
    const int32_t n_swa = llama_model_n_swa(llama_get_model(ctx));
    const llama_pos end = n_positions(slot.cached.list(), static_cast<size_t>(n));
    return !has_states(ctx) && (n_swa == 0 || oldest <= std::max(0, end - n_swa - 1));
}

bool cut(llama_context * ctx, slot & slot, int32_t n) {
    if (static_cast<size_t>(n) < slot.cached.size() &&
        !llama_memory_seq_rm(llama_get_memory(ctx), slot.sequence,
                             n_positions(slot.cached.list(), static_cast<size_t>(n)), -1)) {
        return false;
    }
    if (!prefix_is_whole(ctx, slot, n)) {
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
    return slot.cached.empty() || prefix_is_whole(ctx, slot, static_cast<int32_t>(slot.cached.size()));
}

namespace {

bool take_copy(llama_context * ctx, const slot & from, slot & to) {
    if (!holds_whole(ctx, to)) {
        clear_cache(ctx, to);
        return false;
    }
    to.lora = from.lora;
    to.domain = from.domain;
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
    const llama_pos end = n_positions(from.cached.list(), static_cast<size_t>(n));
    llama_memory_seq_cp(llama_get_memory(ctx), from.sequence, to.sequence, 0, end);
    to.cached.share(from.cached, static_cast<size_t>(n));
    return take_copy(ctx, from, to) ? n : 0;
}

bool join_prefix(llama_context * ctx, const slot & from, slot & to, int32_t n) {
    llama_memory_t memory = llama_get_memory(ctx);
    const std::vector<llama_token> tail(to.cached.list().begin() + n, to.cached.list().end());
    const llama_pos end = n_positions(from.cached.list(), static_cast<size_t>(n));
    llama_memory_seq_rm(memory, to.sequence, 0, end);
    llama_memory_seq_cp(memory, from.sequence, to.sequence, 0, end);
    to.cached.keep(0);
    to.cached.share(from.cached, static_cast<size_t>(n));
    to.cached.append(tail.begin(), tail.end());
    if (!holds_whole(ctx, to)) {
        clear_cache(ctx, to);
        return false;
    }
    return true;
}

}  // namespace pyllama
