// Sequences that lost their slot, kept in host memory up to a limit of bytes (--cache-ram): a prompt that begins like
// one of them gets it back instead of being computed again. What was not used for longest goes first. Engine thread
// only.
#pragma once

#include <cstdint>
#include <list>

#include "generation.h"
#include "saved_sequence.h"

namespace pyllama {

class prompt_cache {
  public:
    // limit_mib: -1 = no limit, 0 = keeps nothing.
    explicit prompt_cache(int32_t limit_mib);

    bool enabled() const { return limit_ != 0; }

    // Keeps the idle slot's sequence, unless the cache has it already or it is larger than the whole cache. False when
    // nothing was kept.
    bool keep(llama_context * ctx, const slot & from);

    // The kept sequence that gives `next` the longest prefix, when it is longer than n_own tokens; null otherwise.
    // Valid until the next call.
    const saved_sequence * find(const generation & next, int32_t n_own);

    size_t n_bytes() const { return n_bytes_; }
    size_t size() const { return kept_.size(); }

    // Whether the slot's sequence is part of one that is kept.
    bool has(const slot & from) const;

  private:
    void make_room(size_t n);

    uint64_t limit_;
    size_t n_bytes_ = 0;
    std::list<saved_sequence> kept_;  // most recently used last
};

}  // namespace pyllama
