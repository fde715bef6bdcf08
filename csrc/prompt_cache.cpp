#include "prompt_cache.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <utility>

#include "media_token.h"

namespace pyllama {

namespace {

// Fewer are sooner computed than looked for.
constexpr size_t least_tokens = 32;

bool begins_with(const llama_tokens & tokens, const llama_tokens & prefix) {
    return prefix.size() <= tokens.size() && std::equal(prefix.begin(), prefix.end(), tokens.begin());
}

bool contains(const saved_sequence & saved, const slot & from) {
    return same_origin(saved, from) && saved.n_exact >= from.n_exact && begins_with(saved.tokens, from.cached.list());
}

bool is_contained(const saved_sequence & saved, const slot & from) {
    return same_origin(saved, from) && begins_with(from.cached.list(), saved.tokens) &&
           from.n_exact >= static_cast<int32_t>(saved.tokens.size());
}

int32_t usable_prefix(const saved_sequence & saved, const generation & next) {
    if (!same_origin(saved, next.params())) {
        return 0;
    }
    return without_cut_media(next.tokens(), std::min(common_prefix(saved.tokens, next.tokens()), saved.n_exact));
}

}  // namespace

prompt_cache::prompt_cache(std::shared_ptr<byte_budget> budget, int32_t limit_mib)
    : budget_(std::move(budget)),
      limit_(limit_mib < 0 ? std::numeric_limits<uint64_t>::max() : static_cast<uint64_t>(limit_mib) << 20) {}

prompt_cache::iterator prompt_cache::find_kept(const slot & from) {
    return std::find_if(kept_.begin(), kept_.end(), [&](const auto & each) { return contains(each.saved, from); });
}

bool prompt_cache::has(const slot & from) const {
    return std::any_of(kept_.begin(), kept_.end(), [&](const auto & each) { return contains(each.saved, from); });
}

bool prompt_cache::keep(llama_context * ctx, const slot & from) {
    return !has(from) && store(ctx, from, nullptr);
}

bool prompt_cache::park(llama_context * ctx, const slot & from, const generation & owner) {
    const auto found = find_kept(from);
    if (found == kept_.end()) {
        return store(ctx, from, &owner);
    }
    found->owners.push_back(&owner);
    found->share.move_to(memory_part::parked);
    return true;
}

// What the new one begins with is of no use beside it, and who waits for that may wait for the new one.
bool prompt_cache::store(llama_context * ctx, const slot & from, const generation * owner) {
    const size_t n_usable = std::min(from.cached.size(), static_cast<size_t>(from.n_exact));
    if (!enabled() || n_usable < least_tokens || from.unsettled) {
        return false;
    }
    const size_t n_checkpoints = n_bytes(from.checkpoints);
    const size_t n = saved_size(ctx, from) - n_checkpoints;
    if (owner == nullptr && n + n_checkpoints > limit_) {
        return false;
    }
    kept_.remove_if([&](const auto & each) { return each.owners.empty() && is_contained(each.saved, from); });
    if (owner == nullptr ? !make_room(n, n_checkpoints) : !budget_->fits(n)) {
        return false;
    }
    kept_sequence added;
    try {
        added.saved = save_sequence(ctx, from);
        added.share = budget_share(budget_, memory_part::prefixes, n);
        if (owner != nullptr) {
            added.owners.push_back(owner);
        }
        kept_.push_back(std::move(added));
    } catch (const std::exception &) {
        return false;  // no memory, or no state
    }
    take_over(kept_.back());
    return true;
}

// Those that wait for a part of the newest sequence wait for all of it.
void prompt_cache::take_over(kept_sequence & newest) {
    for (auto each = kept_.begin(); &*each != &newest;) {
        if (begins_with(newest.saved.tokens, each->saved.tokens) && same_origin(newest.saved, each->saved) &&
            newest.saved.n_exact >= static_cast<int32_t>(each->saved.tokens.size())) {
            newest.owners.insert(newest.owners.end(), each->owners.begin(), each->owners.end());
            each = kept_.erase(each);
        } else {
            ++each;
        }
    }
    if (!newest.owners.empty()) {
        newest.share.move_to(memory_part::parked);
    }
}

void prompt_cache::let_go(const generation & owner) {
    bool was_parked = false;
    for (auto & each : kept_) {
        const auto found = std::find(each.owners.begin(), each.owners.end(), &owner);
        if (found == each.owners.end()) {
            continue;
        }
        each.owners.erase(found);
        if (each.owners.empty()) {
            each.share.move_to(memory_part::prefixes);
            was_parked = true;
        }
    }
    if (was_parked) {
        make_room(0, 0);
    }
}

size_t prompt_cache::n_cached_bytes() const {
    size_t n = 0;
    for (const auto & each : kept_) {
        n += each.owners.empty() ? each.saved.n_bytes() : 0;
    }
    return n;
}

// For another cached one, within both limits. Nothing is given up for what would not fit then either.
bool prompt_cache::make_room(size_t n, size_t n_checkpoints) {
    const size_t n_others = budget_->used() - std::min(budget_->used(), n_cached_bytes());
    if (n + n_checkpoints > limit_ || (budget_->limit() != 0 && n_others + n > budget_->limit())) {
        return false;
    }
    while ((n_cached_bytes() + n + n_checkpoints > limit_ || !budget_->fits(n)) && drop_cached()) {
    }
    return budget_->fits(n);
}

bool prompt_cache::drop(bool parked) {
    const auto found =
        std::find_if(kept_.begin(), kept_.end(), [parked](const auto & each) { return each.owners.empty() != parked; });
    if (found == kept_.end()) {
        return false;
    }
    kept_.erase(found);
    return true;
}

bool prompt_cache::drop_cached() {
    return drop(false);
}

bool prompt_cache::drop_parked() {
    return drop(true);
}

const saved_sequence * prompt_cache::find(const generation & next, int32_t n_own) {
    if (!next.params().cache_prompt) {
        return nullptr;
    }
    auto best = kept_.end();
    int32_t longest = n_own;
    for (auto each = kept_.begin(); each != kept_.end(); ++each) {
        const int32_t n = usable_prefix(each->saved, next);
        if (n > longest && worth_copying(n, each->saved.tokens.size())) {
            longest = n;
            best = each;
        }
    }
    if (best == kept_.end()) {
        return nullptr;
    }
    kept_.splice(kept_.end(), kept_, best);
    return &kept_.back().saved;
}

}  // namespace pyllama
