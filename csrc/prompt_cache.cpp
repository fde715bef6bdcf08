#include "prompt_cache.h"

#include <algorithm>
#include <exception>
#include <limits>

#include "media_token.h"

namespace pyllama {

namespace {

// Fewer are sooner computed than looked for.
constexpr size_t least_tokens = 32;

bool begins_with(const llama_tokens & tokens, const llama_tokens & prefix) {
    return prefix.size() <= tokens.size() && std::equal(prefix.begin(), prefix.end(), tokens.begin());
}

int32_t usable_prefix(const saved_sequence & saved, const generation & next) {
    if (!same_set(saved.lora, next.params().lora)) {
        return 0;
    }
    return without_cut_media(next.tokens(), std::min(common_prefix(saved.tokens, next.tokens()), saved.n_exact));
}

}  // namespace

prompt_cache::prompt_cache(int32_t limit_mib)
    : limit_(limit_mib < 0 ? std::numeric_limits<uint64_t>::max() : static_cast<uint64_t>(limit_mib) << 20) {}

bool prompt_cache::has(const slot & from) const {
    return std::any_of(kept_.begin(), kept_.end(), [&](const saved_sequence & each) {
        return same_set(each.lora, from.lora) && each.n_exact >= from.n_exact &&
               begins_with(each.tokens, from.cached.list());
    });
}

bool prompt_cache::keep(llama_context * ctx, const slot & from) {
    const size_t n_usable = std::min(from.cached.size(), static_cast<size_t>(from.n_exact));
    if (!enabled() || n_usable < least_tokens || from.unsettled || has(from)) {
        return false;
    }
    const size_t n = saved_size(ctx, from);
    if (n > limit_) {
        return false;
    }
    // What the new one begins with is of no use beside it.
    kept_.remove_if([&](const saved_sequence & each) {
        const bool contained = same_set(each.lora, from.lora) && begins_with(from.cached.list(), each.tokens) &&
                               from.n_exact >= static_cast<int32_t>(each.tokens.size());
        n_bytes_ -= contained ? each.n_bytes() : 0;
        return contained;
    });
    make_room(n);
    try {
        kept_.push_back(save_sequence(ctx, from));
    } catch (const std::exception &) {
        return false;  // no memory, or no state
    }
    n_bytes_ += kept_.back().n_bytes();
    return true;
}

void prompt_cache::make_room(size_t n) {
    while (!kept_.empty() && n_bytes_ + n > limit_) {
        n_bytes_ -= kept_.front().n_bytes();
        kept_.pop_front();
    }
}

const saved_sequence * prompt_cache::find(const generation & next, int32_t n_own) {
    if (!next.params().cache_prompt) {
        return nullptr;
    }
    auto best = kept_.end();
    int32_t longest = n_own;
    for (auto each = kept_.begin(); each != kept_.end(); ++each) {
        const int32_t n = usable_prefix(*each, next);
        // Little of much is sooner computed than copied.
        if (n > longest && 4 * static_cast<size_t>(n) >= each->tokens.size()) {
            longest = n;
            best = each;
        }
    }
    if (best == kept_.end()) {
        return nullptr;
    }
    kept_.splice(kept_.end(), kept_, best);
    return &kept_.back();
}

}  // namespace pyllama
