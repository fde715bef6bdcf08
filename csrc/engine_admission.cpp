// Which queued request gets which slot, and what happens when the unified KV cache has no room. Engine thread.

#include <algorithm>

#include "context_shift.h"
#include "engine.h"

namespace pyllama {

// First come, first served, but for requests that cannot use the slots that are idle. One that wants a particular
// slot is passed by the others. One that needs several slots is passed by as many others as there are slots; then what
// becomes idle is kept for it.
void engine::admit() {
    queued_request * passed = nullptr;  // the first of the queue that waits for several slots
    for (auto it = queue_.begin(); it != queue_.end();) {
        if (passed != nullptr && passed->n_overtaken >= slots_.size()) {
            return;
        }
        generation & next = *it->leader;
        if (next.rests()) {
            ++it;  // it keeps its place
            continue;
        }
        slot * target = choose_slot(next);
        if (target == nullptr) {
            passed = passed == nullptr && !next.followers().empty() ? &*it : passed;
            ++it;
            continue;
        }
        if (!room_for(next)) {
            if (park_paused()) {
                it = queue_.begin();
                passed = nullptr;
                continue;
            }
            return;  // nobody overtakes a request that waits for cells
        }
        if (passed != nullptr) {
            passed->n_overtaken++;
        }
        left_queue(static_cast<size_t>(next.n_slots_needed()));
        assign(*target, std::move(it->leader));
        it = queue_.erase(it);
    }
}

// An idle slot: the one asked for, else the one whose cache shares most of the prompt, else the one unused
// for longest. Null when there is none, or too few for all choices.
slot * engine::choose_slot(const generation & next) {
    if (!next.followers().empty() && n_idle() < static_cast<size_t>(next.n_slots_needed())) {
        return nullptr;
    }
    const auto & shared = next.params().shared_slot;
    const int32_t named = shared && *shared >= 0 ? *shared : next.params().id_slot;
    if (named >= 0) {
        slot & wanted = slots_[static_cast<size_t>(named)];
        return wanted.is_idle() ? &wanted : nullptr;
    }
    slot * oldest = nullptr;
    slot * closest = nullptr;
    int32_t longest = 0;
    for (slot & each : slots_) {
        if (!each.is_idle()) {
            continue;
        }
        if (oldest == nullptr || each.last_used < oldest->last_used) {
            oldest = &each;
        }
        const int32_t n_shared = each.usable_prefix(next);
        if (n_shared > longest) {
            longest = n_shared;
            closest = &each;
        }
    }
    const float similarity = static_cast<float>(longest) / static_cast<float>(next.tokens().size());
    return closest != nullptr && similarity > params_.common.slot_prompt_similarity ? closest : oldest;
}

// Whether the unified cache has cells for the request besides what runs; idle slots' cells count as free. In
// streams each slot has cells of its own.
bool engine::room_for(const generation & next) const {
    if (!decoder_->unified()) {
        return true;
    }
    size_t n_running = 0;
    size_t needed = next.tokens().size() + next.followers().size();
    for (const slot & each : slots_) {
        if (each.running) {
            needed += each.running->tokens().size() + each.running->followers().size();
            ++n_running;
        }
    }
    if (n_running == 0) {
        return true;
    }
    needed -= n_shared_cells();
    if (next.started() && !room_changed_) {
        return false;  // parked, and nothing ended since: it would be parked again
    }
    return needed + n_running < static_cast<size_t>(decoder_->n_ctx());
}

void engine::assign(slot & target, std::unique_ptr<generation> next) {
    const generation_params & params = next->params();
    const auto last = static_cast<int32_t>(next->tokens().size()) - 1;  // at least one token gives logits
    recall(target, *next);
    const int32_t wanted = std::min({target.usable_prefix(*next), last, params.n_reuse_most});
    int32_t kept = 0;
    if (params.n_cache_reuse > 0 && params.cache_prompt && last <= params.n_reuse_most && decoder_->moves_chunks() &&
        same_set(target.lora, params.lora)) {
        kept = reuse_chunks(decoder_->context(), target, next->tokens(), wanted, params.n_cache_reuse);
    }
    if (kept <= wanted) {
        kept = keep_prefix(decoder_->context(), target, wanted);
    }
    if (kept < wanted) {
        metrics_.n_prefix_refused++;
    }
    target.lora = params.lora;
    metrics_.n_cached_tokens += static_cast<uint64_t>(kept);
    if (params.shared_slot) {
        *params.shared_slot = target.id;
    }
    target.running = std::move(next);
    target.assigned = ++clock_;
    if (!target.running->started()) {
        const auto waited = generation::clock::now() - target.running->created_at();
        metrics_.queue_time.observe(std::chrono::duration<double>(waited).count());
        metrics_.prompt_length.observe(target.running->n_prompt());
    }
    target.running->note_slot(target.id);
    target.running->start(renderer_, kept);
    const size_t n_reserved = target.running->followers().size();
    reserve(target, n_reserved);
    const std::lock_guard<std::mutex> lock(mutex_);
    n_idle_ -= 1 + n_reserved;
}

// llama_decode found no cells for the batch; the memory is unchanged. Makes room by the cheapest means left,
// and the next step tries again.
void engine::make_room(const std::vector<chunk> & plan) {
    if (evict_idle() || (decoder_->unified() && park_paused())) {
        return;
    }
    slot * youngest = nullptr;
    size_t n_running = 0;
    for (slot & each : slots_) {
        if (each.running) {
            ++n_running;
            if (youngest == nullptr || each.assigned > youngest->assigned) {
                youngest = &each;
            }
        }
    }
    if (n_running > 1 && decoder_->unified()) {
        park(*youngest);
        return;
    }
    const error reason(error_kind::engine, "the KV cache has no room for the request");
    for (const chunk & part : plan) {
        fail(*part.target, reason);
        clear_cache(decoder_->context(), *part.target);
    }
}

// Drops the cache of the idle slot that was used longest ago.
bool engine::evict_idle() {
    slot * oldest = nullptr;
    for (slot & each : slots_) {
        if (!each.running && !each.cached.empty() && (oldest == nullptr || each.last_used < oldest->last_used)) {
            oldest = &each;
        }
    }
    if (oldest == nullptr) {
        return false;
    }
    put_away(*oldest);
    return true;
}

// Gives away the cells of the generation that has been paused for longest.
bool engine::park_paused() {
    slot * longest = nullptr;
    for (slot & each : slots_) {
        if (each.state() == slot_state::paused &&
            (longest == nullptr || each.running->paused_at() < longest->running->paused_at())) {
            longest = &each;
        }
    }
    if (longest == nullptr) {
        return false;
    }
    park(*longest);
    room_changed_ = true;  // it does not come back by itself
    return true;
}

// Puts a running generation back to the head of the queue and gives its cells away. What it needs to continue
// stays in it; its KV entries are computed again.
void engine::park(slot & victim) {
    std::unique_ptr<generation> parked = std::move(victim.running);
    put_away(victim);
    release(victim);
    room_changed_ = false;
    metrics_.n_parked++;
    metrics_.n_queued += parked->n_slots_needed();
    const auto n_needed = static_cast<size_t>(parked->n_slots_needed());
    queue_.push_front({std::move(parked)});
    const std::lock_guard<std::mutex> lock(mutex_);
    n_waiting_ += n_needed;
}

}  // namespace pyllama
