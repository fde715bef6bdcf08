// How a request ends, in a slot or in the queue, and what that gives back. Engine thread.

#include <iterator>

#include "engine.h"

namespace pyllama {

// What was cancelled or stopped, and what reached a limit by forced text, wherever it is.
void engine::drop_ended() {
    drop_cancelled_embeddings();
    for (slot & each : slots_) {
        if (!each.running) {
            continue;
        }
        const int32_t n_before = each.running->n_slots_needed();
        each.running = still_open(std::move(each.running));
        if (!each.running) {
            release(each);
        } else {
            unreserve(each, static_cast<size_t>(n_before - each.running->n_slots_needed()));
        }
    }
    for (auto it = queue_.begin(); it != queue_.end();) {
        std::unique_ptr<generation> & leader = it->leader;
        const int32_t n_before = leader->n_slots_needed();
        leader = still_open(std::move(leader));
        left_queue(static_cast<size_t>(n_before - (leader ? leader->n_slots_needed() : 0)));
        it = leader ? std::next(it) : queue_.erase(it);
    }
}

void engine::release(slot & target) {
    target.running.reset();
    target.awaited = {};
    if (target.unsettled) {
        clear_cache(decoder_->context(), target);  // no decode comes that would settle it: it could not be saved
    }
    target.last_used = ++clock_;
    room_changed_ = true;
    unreserve(target, slots_.size());
    const std::lock_guard<std::mutex> lock(mutex_);
    n_idle_++;
    last_used_ = generation::clock::now();
}

void engine::note_service(const generation & ended) {
    const auto kept = generation::clock::now() - ended.started_at();
    service_.observe(std::chrono::duration<double>(kept).count());
}

void engine::finish(slot & target, finish_reason reason) {
    note_service(*target.running);
    finish(*target.running, reason);
    release(target);
}

void engine::fail(slot & target, const error & reason) {
    fail(*target.running, reason);
    release(target);
}

// A leader's followers end with it.
void engine::finish(generation & ended, finish_reason reason) {
    metrics_.n_generated_tokens += static_cast<uint64_t>(ended.take_uncounted());
    ended.finish(reason, renderer_);
    count_end(ended);
    for (const auto & follower : ended.followers()) {
        finish(*follower, reason);
    }
}

void engine::fail(generation & ended, const error & reason) {
    ended.fail(reason, renderer_);
    count_end(ended);
    for (const auto & follower : ended.followers()) {
        fail(*follower, reason);
    }
}

// A request counts once, when its last choice ends.
void engine::count_end(const generation & ended) {
    prompts_.let_go(ended);
    choice_group & request = *ended.control()->group;
    request.has_answer = request.has_answer || !ended.failure();
    if (--request.n_open > 0) {
        return;
    }
    if (!request.has_answer) {
        metrics_.n_failed++;
    } else if (ended.reason() == finish_reason::cancelled) {
        metrics_.n_cancelled++;
    } else {
        metrics_.n_finished++;
    }
}

void engine::fail_all(const error & reason) {
    drain_submissions();
    fail_slot_tasks(reason);
    for (slot & each : slots_) {
        if (each.running) {
            each.running->fail_request(reason, renderer_);
            fail(each, reason);
        }
    }
    for (const queued_request & waiting : queue_) {
        left_queue(static_cast<size_t>(waiting.leader->n_slots_needed()));
        waiting.leader->fail_request(reason, renderer_);
        fail(*waiting.leader, reason);
    }
    queue_.clear();
    while (!embeddings_.empty()) {
        fail_embedding(reason);
    }
    count_running();
}

}  // namespace pyllama
