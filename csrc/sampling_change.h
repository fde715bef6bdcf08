// New sampling parameters and limits for a request that runs already. Made on the caller's thread, where building
// samplers costs nobody a step; taken over by the engine thread.
#pragma once

#include <memory>

#include "json.h"
#include "model.h"
#include "prompt.h"
#include "slot_sampler.h"

namespace pyllama {

struct sampling_change {
    generation_params params;             // the request's from now on
    std::unique_ptr<slot_sampler> chain;  // its samplers, without grammar and reasoning
    bool seeded = false;                  // the client gave a seed: random numbers begin anew
};

// `fields` are request fields, checked as in a request; `current` is what they change. All or nothing: throws
// error(invalid_request) naming the first field that is wrong, unknown or fixed once a request runs.
std::shared_ptr<sampling_change> make_sampling_change(const model & model, const common_json & fields,
                                                      const generation_params & current, int32_t n_ctx_slot);

}  // namespace pyllama
