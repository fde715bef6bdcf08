// Controls: posted by any thread, applied here, at the top of a step and so between two decodes. Engine thread.

#include <algorithm>
#include <limits>

#include "engine.h"

namespace pyllama {

request_state engine::state_of(const generation & target) const {
    if (target.reason() || target.failure()) {
        return request_state::finished;
    }
    const auto is_target = [&](const std::unique_ptr<generation> & each) { return each.get() == &target; };
    const auto in = std::find_if(slots_.begin(), slots_.end(), [&](const slot & each) {
        return each.running && (is_target(each.running) || std::any_of(each.running->followers().begin(),
                                                                       each.running->followers().end(), is_target));
    });
    if (in == slots_.end()) {
        return request_state::queued;
    }
    if (in->prefilling()) {
        return request_state::prefill;
    }
    return target.reasons() ? request_state::reasoning : request_state::content;
}

void engine::apply_controls() {
    each_generation([this](generation & each) {
        if (!each.cancelled()) {
            control_one(each);
        }
    });
}

// Applies what was posted to one generation. One that this ends has a reason() then.
void engine::control_one(generation & target) {
    if (target.paused() && generation::clock::now() >= pause_end(target)) {
        end_pause(target);
    }
    if (!target.control()->waiting()) {
        return;
    }
    for (posted_control & posted : target.control()->take()) {
        if (target.reason()) {
            settle(target, posted, not_active());
        } else if (posted.command.action == control_action::reasoning_end) {
            target.end_reasoning(told_of(target, std::move(posted)), renderer_);
        } else if (posted.command.action == control_action::inject) {
            const auto text = posted.command.text;
            target.inject(text, told_of(target, std::move(posted)), renderer_);
        } else if (posted.command.action == control_action::reasoning_budget) {
            set_budget(target, posted);
        } else {
            settle(target, posted, apply(target, posted.command));
        }
    }
}

// Tells the stream, when something happened, and the caller.
void engine::settle(generation & target, const posted_control & posted, control_result result) {
    const control_action action = posted.command.action;
    (result.success ? metrics_.n_controls[static_cast<size_t>(action)] : metrics_.n_controls_refused)++;
    if (result.applied) {
        target.note({action, result}, renderer_);
    } else {
        target.control()->settle(1);
    }
    posted.ticket->complete(posted.part, std::move(result));
}

control_result engine::result_of(const generation & target, bool applied, int32_t position) const {
    control_result result;
    result.success = true;
    result.applied = applied;
    result.state = state_of(target);
    if (result.state == request_state::queued) {
        result.queue_position = target.control()->group->queue_position.load(std::memory_order_relaxed);
    }
    result.paused = target.paused() && result.state != request_state::finished;
    result.position = applied ? position : -1;
    return result;
}

control_result engine::refusal_of(const generation & target, std::string message) const {
    control_result result = result_of(target, false, -1);
    result.success = false;
    result.message = std::move(message);
    return result;
}

control_result engine::apply(generation & target, const control_command & wanted) {
    const int32_t position = target.n_generated();
    std::string refused;
    switch (wanted.action) {
        case control_action::reasoning_end:
        case control_action::inject:
        case control_action::reasoning_budget: break;  // have functions of their own
        case control_action::pause: refused = pause(target, wanted.park); break;
        case control_action::resume: refused = resume(target); break;
        case control_action::stop: target.cut(renderer_); break;
        case control_action::sampling: target.change_sampling(*wanted.sampling, renderer_); break;
    }
    return refused.empty() ? result_of(target, true, position) : refusal_of(target, std::move(refused));
}

// Answers a control that forces text. The answer may come steps later, when a character is complete or a block has
// opened, and then the stream may hear of it only. The generation calls back at last when it ends.
force_settled engine::told_of(generation & target, posted_control && control) {
    return [this, &target, posted = std::move(control), answered = false](const force_result & end) mutable {
        switch (end.outcome) {
            case force_outcome::armed:
                posted.ticket->complete(posted.part, result_of(target, false, -1));
                answered = true;
                return;
            case force_outcome::applied:
                if (!answered) {
                    settle(target, posted, result_of(target, true, end.position));
                    return;
                }
                metrics_.n_controls[static_cast<size_t>(posted.command.action)]++;
                target.note({posted.command.action, result_of(target, true, end.position)}, renderer_);
                return;
            case force_outcome::refused:
                if (!answered) {
                    settle(target, posted, refusal_of(target, end.message));
                    return;
                }
                // The stream was promised an end of the reasoning.
                metrics_.n_controls_refused++;
                target.note({posted.command.action, refusal_of(target, end.message)}, renderer_);
                return;
        }
    };
}

// It is told before it is done: what it may force has its place after it.
void engine::set_budget(generation & target, const posted_control & posted) {
    constexpr int64_t most = std::numeric_limits<int32_t>::max();
    const budget_change & change = posted.command.budget;
    const int64_t limit = target.reasoning_budget_limit();
    if (target.params().reasoning.forced.empty()) {
        settle(target, posted, refusal_of(target, "this completion has no reasoning that could be ended"));
    } else if (change.relative && limit < 0) {
        settle(target, posted, refusal_of(target, "the reasoning budget of this completion is unlimited already"));
    } else {
        settle(target, posted, result_of(target, true, target.n_generated()));
        const int64_t tokens = change.relative ? std::min(limit + change.tokens, most) : change.tokens;
        target.set_reasoning_budget(static_cast<int32_t>(tokens), renderer_);
    }
}

// Both return why they did nothing, or an empty string.
std::string engine::pause(generation & target, bool park) {
    if (target.paused()) {
        return "the completion is paused already";
    }
    if (n_paused(target.control()->owner()) >= params_.max_paused) {
        return "too many completions are paused: at most " + std::to_string(params_.max_paused) +
               " at a time (--max-paused)";
    }
    target.pause(park);
    return {};
}

// Slots whose generation was paused to make room for others. Behind apply_controls(), which goes through the queue that
// this changes.
void engine::park_on_request() {
    for (slot & each : slots_) {
        if (each.state() == slot_state::paused && each.running->parks()) {
            park_paused(each);
        }
    }
}

std::string engine::resume(generation & target) {
    if (!target.paused()) {
        return "the completion is not paused";
    }
    target.resume();
    return {};
}

// The time limit of a pause: the stream is told, as of a control.
void engine::end_pause(generation & target) {
    target.resume();
    control_result result = result_of(target, true, target.n_generated());
    result.message = "the pause has reached its time limit";
    target.control()->add_note();
    target.note({control_action::resume, std::move(result)}, renderer_);
}

int32_t engine::n_paused(const std::string & owner) const {
    int32_t n = 0;
    each_generation([&](const generation & each) { n += each.paused() && each.control()->owner() == owner ? 1 : 0; });
    return n;
}

generation::clock::time_point engine::pause_end(const generation & target) const {
    const std::chrono::duration<double> limit(params_.pause_timeout);
    return target.paused_at() + std::chrono::duration_cast<generation::clock::duration>(limit);
}

std::optional<generation::clock::time_point> engine::next_pause_end() const {
    std::optional<generation::clock::time_point> next;
    each_generation([&](const generation & each) {
        if (each.paused() && (!next || pause_end(each) < *next)) {
            next = pause_end(each);
        }
    });
    return next;
}

}  // namespace pyllama
