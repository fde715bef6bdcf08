// Sequences that lost their slot, kept in host memory: a prompt that begins like one of them gets it back instead of
// being computed again. Two kinds, which are found alike:
//
//   cached   up to a limit of bytes of their own (--cache-ram); what was not used for longest goes first, also when
//            somebody else needs the memory
//   parked   somebody waits for it: a generation that gave its cells away and will go on. Stays until that one has it
//            back or has ended, then it is a cached one
//
// Engine thread only.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "byte_budget.h"
#include "generation.h"
#include "saved_sequence.h"

namespace pyllama {

class prompt_cache {
  public:
    // limit_mib: of the cached ones; -1 = none, 0 = keeps nothing of either kind. budget: charged for all.
    prompt_cache(std::shared_ptr<byte_budget> budget, int32_t limit_mib);

    bool enabled() const { return limit_ != 0; }

    // Keeps the idle slot's sequence, unless the cache has it already or there is no room for it when older ones have
    // gone. False when nothing was kept.
    bool keep(llama_context * ctx, const slot & from);

    // The same for the sequence of a generation that will go on. The caller has made room: no other sequence goes for
    // it.
    bool park(llama_context * ctx, const slot & from, const generation & owner);

    // The generation has its sequence back, or has ended.
    void let_go(const generation & owner);

    // Whether n tokens are worth a copy of a sequence of n_saved: little of much is sooner computed.
    static bool worth_copying(int32_t n, size_t n_saved) { return 4 * static_cast<size_t>(n) >= n_saved; }

    // The kept sequence that gives `next` the longest prefix, when it is longer than n_own tokens; null otherwise.
    // Valid until the next call.
    const saved_sequence * find(const generation & next, int32_t n_own);

    // Gives up the cached sequence that was not used for longest, or the parked one. False when there is none.
    bool drop_cached();
    bool drop_parked();

    size_t size() const { return kept_.size(); }

    // Whether the slot's sequence is part of one that is kept.
    bool has(const slot & from) const;

  private:
    struct kept_sequence {
        saved_sequence saved;
        budget_share share;                      // its checkpoints are charged by themselves
        std::vector<const generation *> owners;  // who is parked
    };
    using iterator = std::list<kept_sequence>::iterator;

    iterator find_kept(const slot & from);
    bool store(llama_context * ctx, const slot & from, const generation * owner);
    void take_over(kept_sequence & newest);
    bool make_room(size_t n, size_t n_checkpoints);
    size_t n_cached_bytes() const;
    bool drop(bool parked);

    std::shared_ptr<byte_budget> budget_;
    uint64_t limit_;
    std::list<kept_sequence> kept_;  // most recently used last
};

}  // namespace pyllama
