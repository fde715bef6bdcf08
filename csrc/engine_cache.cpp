// What slots hold of earlier requests: prompts that move to host memory and back, checkpoints of memory that cannot be
// rolled back, and contexts that are full and go on. Engine thread.

#include <algorithm>

#include "context_shift.h"
#include "engine.h"
#include "log_sink.h"
#include "media_token.h"

namespace pyllama {

// An idle slot is about to take `next`: keeps what it loses by that, and gives it what begins like `next`, where that
// is more than the KV cache has.
void engine::recall(slot & target, const generation & next) {
    target.taken = {};
    if (!prompts_.enabled() || !generates_) {
        return;
    }
    const prefix_choice best = choose_prefix(target, next);
    const size_t n_stays = std::max(static_cast<size_t>(target.usable_prefix(next)), target.cached.n_shared());
    if (2 * n_stays < target.cached.size()) {
        prompts_.keep(decoder_->context(), target);
    }
    // What comes back has cells of its own: it must be worth more than a share in others'.
    const int32_t n_shared = std::max(best.from != &target ? best.n + best.n / 4 : best.n, best.awaited.n);
    const saved_sequence * found = prompts_.find(next, n_shared);
    while (found != nullptr && decoder_->unified() && !fits(*found, target) && evict_idle()) {
        found = prompts_.find(next, n_shared);  // the cache may have lost it to what was evicted
    }
    if (found == nullptr) {
        return;
    }
    log_text(log_level::debug,
             "updating prompt cache: a slot takes " + std::to_string(found->tokens.size()) + " tokens from it");
    target.taken.from_host = load(*found, target);
    if (target.taken.from_host) {
        join_others(target);
    }
}

// A copy between streams that is made behind it would overwrite what is loaded, or take it for what was to be copied;
// whether the sequences of the copy are still in use does not matter to llama.cpp.
bool engine::load(const saved_sequence & saved, slot & target) {
    if (copies_wait_) {
        clear_cache(decoder_->context(), target);
        decoder_->settle(target.sequence);
        copies_wait_ = false;
    }
    return load_sequence(decoder_->context(), saved, target);
}

// Whether the unified cache has cells for a saved sequence in place of what the slot holds.
bool engine::fits(const saved_sequence & saved, const slot & target) const {
    auto others = prefix_cache::sequences().set();
    others.reset(static_cast<size_t>(target.sequence));
    return prefixes_.n_cells(others) + saved.tokens.size() <= static_cast<size_t>(decoder_->n_ctx());
}

// A slot loses its cache; the prompt cache has it then, if it has room, which a generation that will go on gets from
// what is worth less. What mostly stays in the KV cache, because others hold it too, is sooner decoded than copied to
// host memory and back.
void engine::put_away(slot & target, const generation * parked) {
    llama_context * ctx = decoder_->context();
    if (prompts_.enabled() && 5 * target.cached.n_shared() < 4 * target.cached.size()) {
        if (parked == nullptr) {
            prompts_.keep(ctx, target);
        } else {
            make_host_room(saved_size(ctx, target) - n_bytes(target.checkpoints), nullptr);
            prompts_.park(ctx, target, *parked);
        }
    }
    clear_cache(ctx, target);
}

// Every token of a unified cache pays for the cells of others: idle slots' give way when a request starts. Those that
// mostly share cells with others stay: they cost little, and somebody will want that prefix.
void engine::put_idle_away() {
    if (!params_.common.cache_idle_slots || !decoder_->unified() || !prompts_.enabled() || !generates_) {
        return;
    }
    for (slot & each : slots_) {
        if (!each.is_idle() || each.cached.empty() || (shares_ && 2 * each.cached.n_shared() >= each.cached.size())) {
            continue;
        }
        if (prompts_.keep(decoder_->context(), each)) {
            log_text(log_level::debug,
                     "slot " + std::to_string(each.id) + " goes to the prompt cache __TEST_TAG_CACHE_IDLE_SLOT__");
        }
        if (prompts_.has(each)) {
            clear_cache(decoder_->context(), each);
        }
    }
}

// Near the end of a prompt, where the next one is likely to part from it, and at a distance before that.
void engine::note_checkpoint(slot & target) {
    const auto n = static_cast<int32_t>(target.cached.size());
    if (without_cut_media(target.running->tokens(), n) != n) {
        return;
    }
    const auto n_left = static_cast<int32_t>(target.running->tokens().size()) - n;
    const int32_t last = target.checkpoints.empty() ? 0 : target.checkpoints.back().n_tokens;
    const bool near_end = n_left <= decoder_->n_ubatch() + 4;
    llama_context * ctx = decoder_->context();
    if ((near_end || n - last > params_.common.checkpoint_min_step) &&
        make_host_room(checkpoint_size(ctx, target.sequence), &target)) {
        add_checkpoint(ctx, target.sequence, n, static_cast<size_t>(decoder_->n_checkpoints()), budget_,
                       target.checkpoints);
    }
}

void engine::shift_full_contexts() {
    if (!shifts_) {
        return;
    }
    for (slot & each : slots_) {
        if (each.running && each.running->outgrown()) {
            generation & running = *each.running;
            const auto n_tokens = static_cast<int32_t>(running.tokens().size());
            const token_range dropped =
                choose_dropped(n_tokens, running.n_fresh(), n_ctx_slot_, running.n_keep(), running.params().n_discard);
            drop_from_cache(decoder_->context(), each, dropped);
            running.drop(dropped.begin, dropped.n);
        }
    }
}

}  // namespace pyllama
