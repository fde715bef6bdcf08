// Ending the reasoning of a running generation by force. Engine thread; the constructor's part, the caller's.

#include <algorithm>

#include "generation.h"

namespace pyllama {

// Null when the reasoning can be ended, now or later.
const char * generation::why_no_end() const {
    const reasoning_budget & reasoning = sampler_.reasoning();
    if (reason_ || failure_) {
        return "the answer has ended";
    }
    if (params_.reasoning.forced.empty()) {
        return "this completion has no reasoning that could be ended";
    }
    if (!reasoning.inside() && n_generated() > 0) {
        return "the answer is not inside its reasoning";
    }
    return params_.n_predict == 0 ? "the completion generates nothing" : nullptr;
}

void generation::end_reasoning(force_settled settled, renderer & render) {
    if (const char * why = why_no_end()) {
        settled({force_outcome::refused, -1, 0, why});
        return;
    }
    reasoning_budget & reasoning = sampler_.reasoning();
    reasoning.ask();
    if (!reasoning.inside()) {
        settled({force_outcome::armed, -1, 0, {}});
    }
    waiting_.push_back(std::move(settled));
    end_if_due(&render);
}

bool generation::set_reasoning_budget(int32_t tokens, renderer & render) {
    if (params_.reasoning.forced.empty()) {
        return false;
    }
    sampler_.reasoning().set_limit(tokens);
    end_if_due(&render);
    return true;
}

void generation::end_if_due(renderer * render) {
    reasoning_budget & reasoning = sampler_.reasoning();
    if (reason_ || params_.reasoning.forced.empty() || !reasoning.due(hold_.complete())) {
        return;
    }
    const reasoning_params & texts = params_.reasoning;
    if (!force(texts.forced, render) && !(texts.forced_bare != texts.forced && force(texts.forced_bare, render))) {
        // A budget tries again after the next token; who asked gets an answer.
        reasoning.withdraw();
        refuse_end("the grammar of this completion does not allow its reasoning to end here");
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

// False, with nothing changed, when the grammar does not allow the text. A limit cuts it, as it would if the model had
// said it token by token.
bool generation::force(const llama_tokens & text, renderer * render) {
    const int32_t n = std::min(n_room(), static_cast<int32_t>(text.size()));
    if (n <= 0 || !sampler_.force(text)) {
        return false;
    }
    std::vector<piece> pieces;
    hold_.flush(pieces);
    if (sampled_any_) {
        release(pieces, *render);
    }
    settle({force_outcome::applied, n_generated(), n, {}});
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
        early_ = std::move(pieces);
    }
    return true;
}

void generation::settle(const force_result & result) {
    for (const force_settled & settled : std::exchange(waiting_, {})) {
        settled(result);
    }
}

void generation::refuse_end(std::string message) {
    if (!waiting_.empty()) {
        settle({force_outcome::refused, -1, 0, std::move(message)});
    }
}

}  // namespace pyllama
