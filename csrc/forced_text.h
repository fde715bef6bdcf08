// The answer to whoever asked for text to be forced upon an answer: the end of the reasoning, or text of their own.
// Plain values: any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace pyllama {

enum class force_outcome {
    applied,  // the forced text is in the answer, from `position` on
    armed,    // an end: nothing is generated and no block is open, and the first one ends as soon as it opens
    refused,  // nothing has changed; `message` says why
};

struct force_result {
    force_outcome outcome = force_outcome::refused;
    int32_t position = -1;  // tokens of the answer before the first forced one; -1 unless applied
    int32_t n_tokens = 0;   // forced
    std::string message;
};

// Called on the engine thread: once, or, when the first answer is `armed`, a second time with what came of it.
using force_settled = std::function<void(const force_result &)>;

}  // namespace pyllama
