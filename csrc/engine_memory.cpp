// The engine's part of host memory: what is worth more than cached sequences gets its room from them, and what streams
// have taken is given back. Engine thread, where it is not said.

#include <algorithm>

#include "engine.h"

namespace pyllama {

// Render thread. An engine that rests has no step to give back in what the last frames took.
void engine::note_rendered() {
    if (budget_->over()) {
        poke();
    }
}

// For a checkpoint of `own`, or for what is worth more than any checkpoint, null: from cached sequences first, then
// from checkpoints. Nothing is given up for what would not fit then either.
bool engine::make_host_room(size_t n, slot * own) {
    const size_t n_firm = budget_->used(memory_part::streams) + budget_->used(memory_part::parked);
    if (budget_->limit() != 0 && n_firm + n > budget_->limit()) {
        return false;
    }
    while (!budget_->fits(n) && (prompts_.drop_cached() || drop_checkpoint(own))) {
    }
    return budget_->fits(n);
}

// Streams have taken more of the budget than was left.
void engine::relieve() {
    while (budget_->over() && (prompts_.drop_cached() || drop_checkpoint(nullptr) || prompts_.drop_parked())) {
    }
}

// The first checkpoint of the idle slot that was not used for longest; else of `own`, else of the slot that has most.
bool engine::drop_checkpoint(slot * own) {
    slot * chosen = nullptr;
    for (slot & each : slots_) {
        if (each.is_idle() && !each.checkpoints.empty() && (chosen == nullptr || each.last_used < chosen->last_used)) {
            chosen = &each;
        }
    }
    if (chosen == nullptr) {
        chosen =
            own != nullptr ? own : &*std::max_element(slots_.begin(), slots_.end(), [](const slot & a, const slot & b) {
                return a.checkpoints.size() < b.checkpoints.size();
            });
    }
    if (chosen->checkpoints.empty()) {
        return false;
    }
    chosen->checkpoints.erase(chosen->checkpoints.begin());
    return true;
}

}  // namespace pyllama
