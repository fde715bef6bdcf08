// Preparation of decision requests, on the caller's thread.
#pragma once

#include <memory>
#include <string_view>

#include "embedding.h"
#include "model.h"
#include "prompt.h"

namespace pyllama {

// body: the raw JSON of POST /v1/systemone. Throws error: unsupported when the model decides nothing,
// invalid_request with the field named, context_exceeded.
prepared_request prepare_decision(const std::shared_ptr<const model> & model, std::string_view body,
                                  const prompt_limits & limits, const embedding_limits & encoder);

}  // namespace pyllama
