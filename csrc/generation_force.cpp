// Text that a running generation says without having sampled it: the end of its reasoning, and what a client puts into
// the answer. Engine thread; the constructor's part, the caller's.

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "generation.h"

namespace pyllama {

// Null when text can be forced upon the answer.
const char * generation::why_no_force() const {
    if (reason_ || failure_) {
        return "the answer has ended";
    }
    return params_.n_predict == 0 || !params_.labels.empty() ? "the completion generates no text" : nullptr;
}

void generation::inject(std::shared_ptr<const llama_tokens> text, force_settled settled, renderer & render) {
    if (const char * why = why_no_force()) {
        settled({force_outcome::refused, -1, 0, why});
        return;
    }
    waiting_texts_.push_back({std::move(text), std::move(settled), sampler_.reasoning().wants_end()});
    force_due(render);
}

// Puts in what waited for the tokens that were added last: text in the order in which it came, then an end of the
// reasoning, which may be due because of that text.
void generation::force_due(renderer & render) {
    note_natural_end();
    while (text_due()) {
        if (waiting_texts_.front().behind_end) {
            end_if_due(&render);
        }
        if (!reason_) {
            put_next_text(render);
        }
    }
    if (sampler_.reasoning().wants_end()) {
        end_if_due(&render);
    }
}

bool generation::text_due() const {
    return !reason_ && !waiting_texts_.empty() &&
           (hold_.complete() || waiting_texts_.front().n_waited >= reasoning_budget::n_wait_max);
}

void generation::put_next_text(renderer & render) {
    const waiting_text next = std::move(waiting_texts_.front());
    waiting_texts_.erase(waiting_texts_.begin());
    if (const int32_t n_room_left = n_room(); static_cast<int64_t>(next.tokens->size()) > n_room_left) {
        next.settled({force_outcome::refused, -1, 0,
                      "the text has " + std::to_string(next.tokens->size()) + " tokens, and the answer has room for " +
                          std::to_string(std::max(n_room_left, 0)) + " more"});
    } else if (force(*next.tokens, next.settled, &render)) {
        note_natural_end();
    } else {
        next.settled({force_outcome::refused, -1, 0, "the grammar of this completion does not allow the text here"});
    }
}

// As many tokens as prompt and answer may still have.
int32_t generation::n_room() const {
    int32_t in_context = n_ctx_slot_ - static_cast<int32_t>(tokens_.size());
    if (shifts_) {
        // A shift may drop all between what is kept and what is not decoded yet; while the prompt is decoded there is
        // none.
        in_context = sampled_any_
                         ? std::max(in_context, n_ctx_slot_ - std::min(n_keep(), n_ctx_slot_ - 4) - 2 - n_fresh_)
                         : in_context - 1;
    }
    return params_.n_predict < 0 ? in_context : std::min(in_context, params_.n_predict - n_generated());
}

// False, with nothing changed and nobody told, when the grammar does not allow the text. A limit cuts it, as it would
// if the model had said it token by token.
bool generation::force(const llama_tokens & text, const force_settled & settled, renderer * render) {
    const int32_t n = std::min(n_room(), static_cast<int32_t>(text.size()));
    if (n <= 0 || !sampler_.force(text)) {
        return false;
    }
    std::vector<piece> pieces;
    hold_.flush(pieces);
    if (sampled_any_) {
        release(pieces, *render);
    }
    settled({force_outcome::applied, n_generated(), n, {}});
    pieces.clear();
    for (int32_t i = 0; i < n; ++i) {
        tokens_.push_back(text[static_cast<size_t>(i)]);
        timings_.n_decoded = n_generated();
        piece next{tokens_.back(), text_of(tokens_.back()), nullptr, nullptr};
        if (params_.timings_per_token) {
            next.timings = std::make_unique<generation_timings>(timings_);
        }
        hold_.pass(std::move(next), pieces);
    }
    n_fresh_ += n;
    const bool whole = n == static_cast<int32_t>(text.size());
    truncated_ = truncated_ || (!whole && shifts_);
    if (limit_reached() || !whole) {
        reason_ = finish_reason::length;
        hold_.flush(pieces);
    }
    if (sampled_any_) {
        release(pieces, *render);
    } else {
        early_.insert(early_.end(), std::make_move_iterator(pieces.begin()), std::make_move_iterator(pieces.end()));
    }
    return true;
}

// Whoever still waits hears that nothing comes of it.
void generation::refuse_forces(const std::string & message) {
    refuse_end(message);
    for (const waiting_text & each : std::exchange(waiting_texts_, {})) {
        each.settled({force_outcome::refused, -1, 0, message});
    }
}

}  // namespace pyllama
