// Preparation of requests for embeddings and reranking, on the caller's thread.
#pragma once

#include <string_view>

#include "embedding.h"
#include "model.h"
#include "prompt.h"

namespace pyllama {

// body: the raw JSON of POST /embeddings (native) or POST /v1/embeddings (openai). Throws error: unsupported when the
// server was not started for it, invalid_request with the field named, context_exceeded.
prepared_request prepare_embedding(const model & model, std::string_view body, dialect dialect,
                                   const embedding_limits & limits);

// body: the raw JSON of POST /rerank. Throws in the same way.
prepared_request prepare_rerank(const model & model, std::string_view body, const embedding_limits & limits);

}  // namespace pyllama
