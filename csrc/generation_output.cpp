// What a generation tells its channel: start, progress, text, notes and the end. Engine thread.

#include <algorithm>
#include <utility>

#include "generation.h"

namespace pyllama {

void generation::start(renderer & render, int32_t n_cached) {
    if (started_) {
        return;
    }
    started_ = true;
    started_at_ = clock::now();
    timings_.n_cached = std::min(n_cached, n_prompt_);
    if (channel_->push_start()) {
        render.mark(channel_);
    }
    release(early_notes_, render);
    tell_progress(render);
}

void generation::note_prefill(int32_t n, renderer & render) {
    timings_.n_prompt += n;
    tell_progress(render);
}

void generation::tell_progress(renderer & render) {
    if (!params_.return_progress || sampled_any_) {
        return;
    }
    prefill_progress progress;
    progress.n_total = n_prompt_;
    progress.n_cached = timings_.n_cached;
    // A parked prompt is decoded again: no more than all of it.
    progress.n_processed = std::min(timings_.n_cached + timings_.n_prompt, n_prompt_);
    progress.elapsed_ms = milliseconds(clock::now() - started_at_);
    if (channel_->push_progress(progress)) {
        render.mark(channel_);
    }
}

void generation::note(control_note && note, renderer & render) {
    piece marked;
    marked.control = std::make_unique<control_note>(std::move(note));
    if (!sampled_any_ && !early_.empty()) {
        early_.push_back(std::move(marked));  // its place is behind what was forced before it
        return;
    }
    if (!started_) {
        early_notes_.push_back(std::move(marked));
        return;
    }
    std::vector<piece> pieces;
    hold_.add_note(std::move(marked), pieces);
    release(pieces, render);
}

void generation::flush(renderer & render) {
    std::vector<piece> pieces;
    hold_.flush(pieces);
    release(pieces, render);
}

void generation::release(std::vector<piece> & pieces, renderer & render) {
    bool was_clean = false;
    size_t n_notes = 0;
    for (auto & next : pieces) {
        n_notes += next.control ? 1 : 0;
        next.choice = choice_;
        was_clean = channel_->push(std::move(next)) || was_clean;
    }
    if (was_clean) {
        render.mark(channel_);
    }
    pieces.clear();
    if (n_notes > 0) {
        control_->settle(n_notes);
    }
}

void generation::finish(finish_reason reason, renderer & render) {
    reason_ = reason;
    refuse_forces("the answer has ended");
    release(early_notes_, render);
    release(early_, render);
    flush(render);
    control_->close();
    generation_result ended = result();
    ended.reason = reason;
    ended.cut = cut_;
    ended.stop_string = std::move(stop_string_);
    ended.truncated = truncated_;
    if (channel_->push_finish(std::move(ended))) {
        render.mark(channel_);
    }
}

void generation::fail(error reason, renderer & render) {
    failure_ = reason;
    refuse_forces("the completion has failed");
    if (started_) {
        flush(render);
    }
    control_->close();
    generation_result ended = result();
    ended.failure = std::move(reason);
    if (channel_->push_finish(std::move(ended))) {
        render.mark(channel_);
    }
}

void generation::fail_request(const error & reason, renderer & render) {
    if (channel_->push_failure(error(reason))) {
        render.mark(channel_);
    }
}

generation_result generation::result() const {
    generation_result result;
    result.choice = choice_;
    result.n_prompt_tokens = n_prompt_;
    result.n_reasoning_tokens = sampler_.reasoning().n_tokens();
    result.id_slot = id_slot_;
    result.timings = timings_;
    return result;
}

}  // namespace pyllama
