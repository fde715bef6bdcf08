#include "context_shift.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace pyllama {

token_range choose_dropped(int32_t n_tokens, int32_t n_fresh, int32_t n_ctx, int32_t n_keep, int32_t n_discard) {
    token_range dropped;
    dropped.begin = std::clamp(n_keep, 0, std::max(0, n_ctx - 4));
    while (n_tokens - dropped.n >= n_ctx) {
        const int32_t n_left = n_tokens - n_fresh - dropped.n - dropped.begin;
        if (n_left < 2) {
            break;
        }
        dropped.n += std::clamp(n_discard > 0 ? n_discard : n_left / 2, 1, n_left - 1);
    }
    return dropped;
}

namespace {

int64_t meta_number(const llama_model * model, const std::string & key, int64_t otherwise) {
    char text[64] = {};
    return llama_model_meta_val_str(model, key.c_str(), text, sizeof(text)) > 0 ? std::atoll(text) : otherwise;
}

// To shift quantised keys, llama.cpp turns them back by a rotation that it makes only for heads that are multiples of
// 64, and looks for it in any case.
bool keys_can_shift(const llama_model * model, ggml_type type) {
    if (ggml_blck_size(type) == 1) {
        return true;
    }
    const char * disabled = std::getenv("LLAMA_ATTN_ROT_DISABLE");
    if (disabled != nullptr && std::strcmp(disabled, "0") != 0) {
        return false;
    }
    char architecture[128] = {};
    llama_model_meta_val_str(model, "general.architecture", architecture, sizeof(architecture));
    const std::string prefix = std::string(architecture) + ".attention.key_length";
    const int64_t own = llama_model_n_embd(model) / std::max(llama_model_n_head(model), 1);
    const int64_t head = meta_number(model, prefix, own);
    return head % 64 == 0 && meta_number(model, prefix + "_swa", head) == head;
}

}  // namespace

bool can_shift(const llama_context * ctx, const common_params & params) {
    llama_memory_t memory = llama_get_memory(ctx);
    const llama_model * model = llama_get_model(ctx);
    const llama_rope_type rope = llama_model_rope_type(model);
    return memory != nullptr && llama_memory_can_shift(memory) && rope != LLAMA_ROPE_TYPE_MROPE &&
           rope != LLAMA_ROPE_TYPE_IMROPE && rope != LLAMA_ROPE_TYPE_VISION &&
           keys_can_shift(model, params.cache_type_k);
}

void drop_from_cache(llama_context * ctx, slot & slot, const token_range & dropped) {
    const auto n_cached = static_cast<int32_t>(slot.cached.size());
    const int32_t end = std::min(dropped.begin + dropped.n, n_cached);
    if (end <= dropped.begin) {
        return;
    }
    if (slot.cached.n_shared() > static_cast<size_t>(dropped.begin)) {
        keep_prefix(ctx, slot, dropped.begin);
        return;
    }
    llama_memory_t memory = llama_get_memory(ctx);
    if (!llama_memory_seq_rm(memory, slot.sequence, dropped.begin, end)) {
        clear_cache(ctx, slot);
        return;
    }
    if (end < n_cached) {
        llama_memory_seq_add(memory, slot.sequence, end, n_cached, dropped.begin - end);
        slot.unsettled = true;
    }
    const std::vector<llama_token> moved(slot.cached.list().begin() + end, slot.cached.list().end());
    slot.cached.keep(static_cast<size_t>(dropped.begin));
    slot.cached.append(moved.begin(), moved.end());
    slot.n_exact = std::min(slot.n_exact, dropped.begin);
    drop_checkpoints_after(slot.checkpoints, dropped.begin);
}

namespace {

// Of each beginning of a pattern, how much of its end is a beginning again: what a search by Knuth, Morris and Pratt
// goes on with where the next token differs.
std::vector<size_t> borders(const llama_token * pattern, size_t n, size_t & n_compared) {
    std::vector<size_t> border(n, 0);
    for (size_t i = 1, k = 0; i < n; ++i) {
        while (++n_compared, k > 0 && pattern[i] != pattern[k]) {
            k = border[k - 1];
        }
        k += pattern[i] == pattern[k] ? 1 : 0;
        border[i] = k;
    }
    return border;
}

// Where the pattern begins in `old`, from `from` on; the size of `old` when it does not.
size_t find_pattern(const std::vector<llama_token> & old, size_t from, const llama_token * pattern, size_t n,
                    size_t & n_compared) {
    const std::vector<size_t> border = borders(pattern, n, n_compared);
    for (size_t i = from, k = 0; i < old.size(); ++i) {
        while (++n_compared, k > 0 && old[i] != pattern[k]) {
            k = border[k - 1];
        }
        k += old[i] == pattern[k] ? 1 : 0;
        if (k == n) {
            return i + 1 - n;
        }
    }
    return old.size();
}

}  // namespace

std::vector<moved_chunk> find_chunks(const std::vector<llama_token> & old, const std::vector<llama_token> & tokens,
                                     size_t kept, size_t n_least, size_t * n_compared) {
    std::vector<moved_chunk> chunks;
    size_t n_looked = 0;
    const size_t wanted = tokens.size() - 1;
    size_t from = kept;
    size_t to = kept;
    while (n_least > 0 && to + n_least <= wanted && from + n_least <= old.size()) {
        from = find_pattern(old, from, tokens.data() + to, n_least, n_looked);
        if (from == old.size()) {
            break;
        }
        size_t n = n_least;
        while (++n_looked, from + n < old.size() && to + n < wanted && old[from + n] == tokens[to + n]) {
            ++n;
        }
        chunks.push_back({from, to, n});
        from += n;
        to += n;
    }
    if (n_compared != nullptr) {
        *n_compared = n_looked;
    }
    return chunks;
}

int32_t reuse_chunks(llama_context * ctx, slot & slot, const std::vector<llama_token> & tokens, int32_t kept,
                     int32_t n_least) {
    if (slot.cached.n_shared() > static_cast<size_t>(kept)) {
        return kept;
    }
    const std::vector<moved_chunk> chunks =
        find_chunks(slot.cached.list(), tokens, static_cast<size_t>(kept), static_cast<size_t>(n_least));
    if (chunks.empty()) {
        return kept;
    }
    llama_memory_t memory = llama_get_memory(ctx);
    for (const moved_chunk & each : chunks) {
        if (each.from != each.to) {
            const auto begin = static_cast<llama_pos>(each.from);
            const auto target = static_cast<llama_pos>(each.to);
            llama_memory_seq_rm(memory, slot.sequence, target, begin);
            llama_memory_seq_add(memory, slot.sequence, begin, begin + static_cast<llama_pos>(each.n), target - begin);
            slot.unsettled = true;
        }
    }
    const size_t end = chunks.back().to + chunks.back().n;
    slot.n_exact = std::min(slot.n_exact, kept);
    drop_checkpoints_after(slot.checkpoints, kept);
    llama_memory_seq_rm(memory, slot.sequence, static_cast<llama_pos>(end), -1);
    slot.cached.keep(static_cast<size_t>(kept));
    slot.cached.append(tokens.begin() + kept, tokens.begin() + static_cast<std::ptrdiff_t>(end));
    return static_cast<int32_t>(end);
}

}  // namespace pyllama
