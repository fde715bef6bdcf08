// Which queued request gets which slot, and what happens when the unified KV cache has no room. Engine thread.

#include <algorithm>

#include "engine.h"

namespace pyllama {

namespace {

// With fewer tokens of its prompt in a slot, a request saves less than one decode step's pass takes.
constexpr int32_t least_worth_a_pass = 32;

}  // namespace

// In the queue's order, but for requests that cannot use the slots that are idle. One that wants a particular
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
        if (target == nullptr && park_for(next)) {
            it = queue_.begin();
            passed = nullptr;
            continue;
        }
        if (target == nullptr) {
            passed = passed == nullptr && !next.followers().empty() ? &*it : passed;
            ++it;
            continue;
        }
        if (!room_for(next, *target)) {
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
        assign(*target, queue_.take(it));
    }
}

int32_t engine::named_slot(const generation & next) {
    const auto & shared = next.params().shared_slot;
    return shared && *shared >= 0 ? *shared : next.params().id_slot;
}

// How many more passes a decode step takes with this slot than without it, where the memory splits batches: one for
// each run of sequences that follow one another.
int engine::n_more_passes(const slot & idle) const {
    const auto busy = [this](size_t id) {
        return id < slots_.size() && !slots_[id].is_idle() && slots_[id].state() != slot_state::paused;
    };
    const auto id = static_cast<size_t>(idle.id);
    return decoder_->alternate() ? 1 - static_cast<int>(busy(id - 1)) - static_cast<int>(busy(id + 1)) : 0;
}

// What speaks against a slot, the least first: it runs beside no other one where batches are split; it is not empty,
// where prefixes are shared; it was used not long ago.
engine::slot_rank engine::rank(const slot & idle) const {
    return {n_more_passes(idle), shares_ && !idle.cached.empty(), idle.last_used};
}

// The idle slot for what finds its prompt in none of them. Null when there is none.
slot * engine::spare_slot() {
    slot * best = nullptr;
    for (slot & each : slots_) {
        if (each.is_idle() && (best == nullptr || rank(each) < rank(*best))) {
            best = &each;
        }
    }
    return best;
}

// Whether host memory has the slot's cache, so that another slot can go on behind n tokens of it.
bool engine::hands_over(const slot & idle, int32_t n) {
    return prompt_cache::worth_copying(n, idle.cached.size()) &&
           (prompts_.has(idle) || prompts_.keep(decoder_->context(), idle));
}

// An idle slot: the one asked for, else the one whose cache shares most of the prompt, else spare_slot(). That one may
// have the prefix through host memory, where the other would take a pass of its own in each step. Where a prefix can be
// had from another slot as well, no slot loses more than a quarter of what it holds to one that shares its prefix: that
// may be another conversation, and this one goes on later. But a prompt that is asked again takes the slot that holds
// it, rather than one with something else. Null when there is no slot, or too few for all choices.
slot * engine::choose_slot(const generation & next) {
    if (!next.followers().empty() && n_idle() < static_cast<size_t>(next.n_slots_needed())) {
        return nullptr;
    }
    const int32_t named = named_slot(next);
    if (named >= 0) {
        slot & wanted = slots_[static_cast<size_t>(named)];
        return wanted.is_idle() ? &wanted : nullptr;
    }
    slot * oldest = spare_slot();
    slot * closest = nullptr;
    int32_t longest = 0;
    for (slot & each : slots_) {
        if (!each.is_idle()) {
            continue;
        }
        const int32_t n_shared = each.usable_prefix(next);
        if (n_shared > longest || (n_shared == longest && closest != nullptr && rank(each) < rank(*closest))) {
            longest = n_shared;
            closest = &each;
        }
    }
    const float similarity = static_cast<float>(longest) / static_cast<float>(next.tokens().size());
    if (closest == nullptr || similarity <= params_.common.slot_prompt_similarity) {
        return oldest;
    }
    if (n_more_passes(*oldest) < n_more_passes(*closest) &&
        (longest < least_worth_a_pass || hands_over(*closest, longest))) {
        return oldest;
    }
    const size_t n_left = std::max(static_cast<size_t>(longest), closest->cached.n_shared());
    const bool loses_much = 4 * (closest->cached.size() - n_left) > closest->cached.size();
    // Asked again, it loses its old answer. That is less than another conversation.
    const bool asked_again = static_cast<size_t>(longest) == next.tokens().size() && !oldest->cached.empty();
    const bool goes_elsewhere = loses_much && !asked_again && next.params().n_cache_reuse == 0;
    return shares_ && decoder_->can_share() && goes_elsewhere ? oldest : closest;
}

// Whether the unified cache has cells for the request besides what runs; cells that only idle slots hold count as
// free. In streams each slot has cells of its own.
bool engine::room_for(const generation & next, const slot & target) const {
    if (!decoder_->unified()) {
        return true;
    }
    const prefix_cache::sequences running = running_sequences();
    if (running.none()) {
        return true;
    }
    if (next.started() && !room_changed_) {
        return false;  // parked, and nothing ended since: it would be parked again
    }
    const prefix_choice found = choose_prefix(target, next);
    const auto n_found = static_cast<size_t>(std::max(found.n, found.awaited.n));
    const bool is_held = found.awaited.from != nullptr || found.from->running;
    const size_t n_taken = is_held ? n_found : std::min(n_found, prefixes_.n_held(found.from->sequence, running));
    size_t needed = prefixes_.n_cells(running) + next.tokens().size() + next.followers().size() - n_taken;
    for (const slot & each : slots_) {
        if (each.running) {
            const auto n_comes =
                static_cast<size_t>(std::max(each.awaited.n - static_cast<int32_t>(each.cached.size()), 0));
            needed += static_cast<size_t>(each.n_pending()) - n_comes + each.running->followers().size();
        }
    }
    // One that was parked comes back to stay for a while.
    const size_t headroom = next.started() ? next.tokens().size() / 4 : 0;
    return needed + headroom + running.count() < static_cast<size_t>(decoder_->n_ctx());
}

void engine::assign(slot & target, std::unique_ptr<generation> next) {
    recall(target, *next);
    prompts_.let_go(*next);
    target.running = std::move(next);
    target.assigned = ++clock_;
    const generation & running = *target.running;
    if (running.params().shared_slot) {
        *running.params().shared_slot = target.id;
    }
    if (!running.started()) {
        const auto waited = generation::clock::now() - running.created_at();
        metrics_.queue_time.observe(std::chrono::duration<double>(waited).count());
        metrics_.prompt_length.observe(running.n_prompt());
    }
    target.running->note_slot(target.id);
    if (running.started()) {
        tell(*target.running, "unpark");
    }
    take_prefix(target);
    put_idle_away();
    const size_t n_reserved = running.followers().size();
    reserve(target, n_reserved);
    const std::lock_guard<std::mutex> lock(mutex_);
    n_idle_ -= 1 + n_reserved;
}

// llama_decode found no cells for the batch; the memory is unchanged. Makes room by the cheapest means left,
// and the next step tries again. A generation fails only when nobody else holds a cell that it could have.
void engine::make_room(const std::vector<chunk> & plan) {
    if (evict_idle() || (decoder_->unified() && park_paused())) {
        return;
    }
    const prefix_cache::sequences running = running_sequences();
    slot * youngest = nullptr;
    size_t n_needing = 0;
    for (slot & each : slots_) {
        const bool decodes =
            std::any_of(plan.begin(), plan.end(), [&](const chunk & part) { return part.target == &each; });
        if (each.running && (decodes || prefixes_.n_own(each.sequence, running) > 0)) {
            ++n_needing;
            youngest = youngest == nullptr || each.assigned > youngest->assigned ? &each : youngest;
        }
    }
    if (n_needing > 1 && decoder_->unified()) {
        park(*youngest);
        return;
    }
    for (const chunk & part : plan) {
        const int32_t n_cells = decoder_->unified() ? decoder_->n_ctx() : n_ctx_slot_;
        fail(*part.target, error(error_kind::engine, "the KV cache has no room for the request: it needs " +
                                                         std::to_string(part.target->running->tokens().size()) +
                                                         " cells, and there are " + std::to_string(n_cells)));
        clear_cache(decoder_->context(), *part.target);
    }
}

// Drops the cache of an idle slot that frees cells by that: the one that was not used for longest, where a sequence
// counts for the younger the more it costs to compute it again. False when there is none.
bool engine::evict_idle() {
    constexpr double doubled_at = 8192;  // a token at this position costs about twice as much as the first one
    const prefix_cache::sequences running = running_sequences();
    slot * chosen = nullptr;
    double oldest = 0;
    for (slot & each : slots_) {
        const size_t n_freed = each.running ? 0 : prefixes_.n_own(each.sequence, running);
        if (n_freed == 0) {
            continue;
        }
        const double middle = static_cast<double>(each.cached.size()) - static_cast<double>(n_freed) / 2;
        const double age = static_cast<double>(clock_ - each.last_used + 1) / (1 + middle / doubled_at);
        if (chosen == nullptr || age > oldest) {
            chosen = &each;
            oldest = age;
        }
    }
    if (chosen == nullptr) {
        return false;
    }
    put_away(*chosen);
    return true;
}

// A request that finds no slot gets one that a paused generation holds, where that is enough.
bool engine::park_for(const generation & next) {
    const int32_t named = named_slot(next);
    if (named >= 0) {
        const slot & wanted = slots_[static_cast<size_t>(named)];
        slot & holder = slots_[static_cast<size_t>(wanted.reserved_for != nullptr ? wanted.reserved_for->id : named)];
        if (holder.state() != slot_state::paused) {
            return false;
        }
        park_paused(holder);
        return true;
    }
    size_t n_held = 0;
    for (const slot & each : slots_) {
        n_held += each.state() == slot_state::paused ? static_cast<size_t>(each.running->n_slots_needed()) : 0;
    }
    return n_idle() + n_held >= static_cast<size_t>(next.n_slots_needed()) && park_paused();
}

// Gives away the slot and the cells of the generation that has been paused for longest.
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
    park_paused(*longest);
    return true;
}

void engine::park_paused(slot & paused) {
    park(paused);
    room_changed_ = true;  // it does not come back by itself
}

// Puts a running generation back to the head of the queue and gives its cells away. What it needs to continue
// stays in it; its KV entries are computed again.
void engine::park(slot & victim) {
    std::unique_ptr<generation> parked = std::move(victim.running);
    put_away(victim, parked.get());
    release(victim);
    room_changed_ = false;
    if (parked->started()) {
        tell(*parked, "park");
    }
    metrics_.n_parked++;
    metrics_.n_queued += parked->n_slots_needed();
    const auto n_needed = static_cast<size_t>(parked->n_slots_needed());
    queue_.put_back(std::move(parked));
    const std::lock_guard<std::mutex> lock(mutex_);
    n_waiting_ += n_needed;
}

// Whoever opted in to controls hears of what happened to the generation, between its tokens.
void engine::tell(generation & target, const char * event) {
    if (!target.control()->opted_in()) {
        return;
    }
    control_note note;
    note.event = event;
    note.result = result_of(target, true, target.n_generated());
    target.control()->add_note();
    target.note(std::move(note), renderer_);
}

}  // namespace pyllama
