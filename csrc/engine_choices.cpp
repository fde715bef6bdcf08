// The choices of a request that has several: slots for all of them from the start, one prefill, and then each on its
// own. Engine thread.

#include <algorithm>

#include "engine.h"
#include "media_token.h"

namespace pyllama {

size_t engine::n_idle() const {
    return static_cast<size_t>(
        std::count_if(slots_.begin(), slots_.end(), [](const slot & each) { return each.is_idle(); }));
}

// Keeps n idle slots for the leader's followers, which lose their cache.
void engine::reserve(const slot & leader, size_t n) {
    for (; n > 0; --n) {
        slot & taken = *spare_slot();
        put_away(taken);
        taken.reserved_for = &leader;
    }
}

// Some followers, or the leader with all of them, are gone before the prompt was done: gives up to n slots back.
void engine::unreserve(const slot & leader, size_t n) {
    size_t n_given = 0;
    for (slot & each : slots_) {
        if (n_given < n && each.reserved_for == &leader) {
            each.reserved_for = nullptr;
            ++n_given;
        }
    }
    if (n_given > 0) {
        const std::lock_guard<std::mutex> lock(mutex_);
        n_idle_ += n_given;
    }
}

// Ends those of the leader and its followers that have a reason to. The first one left leads the others on; null when
// none is.
std::unique_ptr<generation> engine::still_open(std::unique_ptr<generation> leader) {
    if (leader->cancelled()) {
        finish(*leader, finish_reason::cancelled);
        return nullptr;
    }
    for (const auto & ended : leader->take_ended_followers()) {
        finish(*ended, *ended->reason());
    }
    while (leader && leader->reason()) {
        std::unique_ptr<generation> next = leader->hand_over(renderer_);
        finish(*leader, *leader->reason());
        leader = std::move(next);
    }
    return leader;
}

// The leader's prompt is decoded: its followers take their slots with a copy of its cache, and sample their first
// token from the same row. Where the memory makes no copy, a follower decodes the prompt itself; where its tokens are
// not the leader's to the end (text was forced upon one of them), what differs.
void engine::fork(slot & leader, const float * row, std::vector<ready_slot> & ready) {
    if (leader.running->followers().empty()) {
        return;
    }
    for (slot & each : slots_) {
        if (each.reserved_for != &leader) {
            continue;
        }
        each.running = leader.running->take_follower();
        each.running->note_slot(each.id);
        each.take_origin(each.running->params());
        each.reserved_for = nullptr;
        each.assigned = ++clock_;
        if (!decoder_->can_copy() || !copy_cache(decoder_->context(), leader, each, decoder_->unified())) {
            each.running->start(renderer_, 0);
            continue;
        }
        each.unsettled = !decoder_->unified();
        copies_wait_ = copies_wait_ || each.unsettled;
        each.running->start_from(*leader.running, renderer_);
        if (each.running->tokens() == leader.running->tokens()) {
            take_row(each, row, ready);
        } else {
            const auto & tokens = each.running->tokens();
            const auto last = static_cast<int32_t>(tokens.size()) - 1;
            keep_prefix(decoder_->context(), each,
                        without_cut_media(tokens, std::min(each.usable_prefix(*each.running), last)));
        }
    }
}

// A paused choice of a prompt that others wait for has no use for the row: it decodes its last token when it resumes.
void engine::take_row(slot & target, const float * row, std::vector<ready_slot> & ready) {
    if (target.running->paused()) {
        const auto last = static_cast<int32_t>(target.cached.size()) - 1;
        keep_prefix(decoder_->context(), target, without_cut_media(target.cached.list(), last));
    } else {
        ready.push_back({&target, row});
    }
}

}  // namespace pyllama
