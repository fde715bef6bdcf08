// The end of a running generation's reasoning, by force: when it is due, and who is told. Engine thread; the
// constructor's part, the caller's.

#include <utility>

#include "generation.h"

namespace pyllama {

// Null when the reasoning can be ended, now or later.
const char * generation::why_no_end() const {
    if (const char * why = why_no_force()) {
        return why;
    }
    if (params_.reasoning.forced.empty()) {
        return "this completion has no reasoning that could be ended";
    }
    return !reasons() && n_generated() > 0 ? "the answer is not inside its reasoning" : nullptr;
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
    waiting_ends_.push_back(std::move(settled));
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
    const auto told = [this](const force_result & result) { settle_end(result); };
    if (!force(texts.forced, told, render) &&
        !(texts.forced_bare != texts.forced && force(texts.forced_bare, told, render))) {
        // A budget tries again after the next token; who asked gets an answer.
        reasoning.withdraw();
        refuse_end("the grammar of this completion does not allow its reasoning to end here");
    }
}

void generation::settle_end(const force_result & result) {
    for (const force_settled & settled : std::exchange(waiting_ends_, {})) {
        settled(result);
    }
}

void generation::refuse_end(std::string message) {
    if (!waiting_ends_.empty()) {
        settle_end({force_outcome::refused, -1, 0, std::move(message)});
    }
}

// The block that was to be ended has closed.
void generation::note_natural_end() {
    if (!sampler_.reasoning().asked()) {
        refuse_end("the reasoning ended by itself");
    }
}

}  // namespace pyllama
