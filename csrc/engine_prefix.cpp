// What a generation takes from the KV cache instead of decoding it, and from whom: its slot's own earlier cache,
// another slot's cells, or those that another slot is about to fill. Engine thread.

#include <algorithm>

#include "context_shift.h"
#include "engine.h"
#include "media_token.h"

namespace pyllama {

namespace {

// A copy looks at every cell of the cache: fewer tokens are not worth it.
constexpr int32_t least_shared = 16;

// A wait costs the one who waits a step: fewer tokens fit into that step beside the other's.
constexpr int32_t least_awaited = 64;

}  // namespace

prefix_cache::sequences engine::running_sequences() const {
    prefix_cache::sequences running;
    for (const slot & each : slots_) {
        running.set(static_cast<size_t>(each.sequence), each.running != nullptr);
    }
    return running;
}

// The longest prefix that `next` would have in this slot. Where a generation that came first decodes a longer one, that
// is awaited: whoever waits, waits for an earlier one, so no two wait for each other.
engine::prefix_choice engine::choose_prefix(const slot & target, const generation & next) const {
    const generation_params & params = next.params();
    // At least one token gives logits.
    const int32_t most = std::min(static_cast<int32_t>(next.tokens().size()) - 1, params.n_reuse_most);
    prefix_choice choice;
    choice.from = &target;
    const auto whole = [&](int32_t n) { return without_cut_media(next.tokens(), std::min(n, most)); };
    choice.n = whole(target.usable_prefix(next));
    if (!shares_ || !params.cache_prompt) {
        return choice;
    }
    const auto usable = [&](llama_seq_id sequence) {
        const slot & other = slots_[static_cast<size_t>(sequence)];
        return &other != &target && same_origin(other, params) ? other.n_exact : 0;
    };
    if (!decoder_->can_share()) {
        int32_t longest = whole_prefix(target, choice.n) + least_shared - 1;
        for (const slot & each : slots_) {
            const int32_t n = whole(std::min(common_prefix(next.tokens(), each.cached.list()), usable(each.sequence)));
            if (whole_prefix(each, n) > longest) {
                longest = whole_prefix(each, n);
                choice.from = &each;
                choice.n = longest;
            }
        }
        return choice;
    }
    const auto found = prefixes_.find(next.tokens(), usable);
    if (whole(found.n) >= choice.n + least_shared) {
        choice.from = &slots_[static_cast<size_t>(found.sequence)];
        choice.n = whole(found.n);
    }
    for (const slot & each : slots_) {
        const bool later = &each == &target || (target.running && each.assigned > target.assigned);
        if (later || !each.prefilling() || each.running->rests() || !same_origin(each.running->params(), params)) {
            continue;
        }
        const int32_t n = whole(common_prefix(next.tokens(), each.running->tokens()));
        const bool comes = n > static_cast<int32_t>(each.cached.size()) && n <= each.n_exact;
        if (comes && n >= choice.n + least_awaited && n > choice.awaited.n) {
            choice.awaited = {&each, each.assigned, n};
        }
    }
    return choice;
}

// Keeps what the slot's own cache has of its generation. Returns how much that is.
int32_t engine::take_own(slot & target, int32_t wanted) {
    const generation & running = *target.running;
    const generation_params & params = running.params();
    const auto last = static_cast<int32_t>(running.tokens().size()) - 1;
    if (params.n_cache_reuse > 0 && params.cache_prompt && last <= params.n_reuse_most && decoder_->moves_chunks() &&
        same_origin(target, params)) {
        const int32_t kept = reuse_chunks(decoder_->context(), target, running.tokens(), wanted, params.n_cache_reuse);
        if (kept > wanted) {
            return kept;
        }
    }
    return keep_prefix(decoder_->context(), target, wanted);
}

// A slot got its generation, or what it waited for: takes the longest prefix and starts, or waits for a longer one.
void engine::take_prefix(slot & target) {
    generation & running = *target.running;
    const prefix_choice found = choose_prefix(target, running);
    target.awaited = found.awaited;
    if (found.awaited.from != nullptr) {
        keep_prefix(decoder_->context(), target, found.from == &target ? found.n : 0);
        target.take_origin(running.params());
        metrics_.n_prefix_waits++;
        return;
    }
    int32_t kept = 0;
    if (found.from == &target) {
        kept = take_own(target, found.n);
        target.taken = {kept, -1, target.taken.from_host};
    } else {
        clear_cache(decoder_->context(), target);
        kept = share_prefix(decoder_->context(), *found.from, target, found.n, decoder_->can_share());
        target.taken = {kept, found.from->id, false};
        metrics_.n_shared_tokens += static_cast<uint64_t>(kept);
    }
    if (kept < found.n) {
        metrics_.n_prefix_refused++;
    }
    target.take_origin(running.params());
    metrics_.n_cached_tokens += static_cast<uint64_t>(kept);
    running.start(renderer_, kept);
}

// A sequence from host memory has cells of its own for all its tokens. Where another one holds the first of them as
// well, those cells serve both, and the others are free.
void engine::join_others(slot & target) {
    if (!shares_ || !decoder_->can_share()) {
        return;
    }
    const auto usable = [&](llama_seq_id sequence) {
        const slot & other = slots_[static_cast<size_t>(sequence)];
        return &other != &target && same_origin(other, target) ? std::min(other.n_exact, target.n_exact) : 0;
    };
    const auto found = prefixes_.find(target.cached.list(), usable);
    const int32_t n = without_cut_media(target.cached.list(), found.n);
    if (n >= least_shared) {
        join_prefix(decoder_->context(), slots_[static_cast<size_t>(found.sequence)], target, n);
    }
}

// Slots whose prefix is there by now, or does not come any more, go on.
void engine::end_waits() {
    for (slot & each : slots_) {
        if (each.awaited.from == nullptr || each.running->rests()) {
            continue;
        }
        const slot & from = *each.awaited.from;
        const bool comes = from.running && from.assigned == each.awaited.assigned && !from.running->rests() &&
                           static_cast<int32_t>(from.cached.size()) < each.awaited.n;
        if (!comes) {
            take_prefix(each);
        }
    }
}

}  // namespace pyllama
