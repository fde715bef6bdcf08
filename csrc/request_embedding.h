// What clients of embeddings and reranking ask, decoded and validated. Any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "embedding.h"
#include "model.h"

namespace pyllama {

struct embedding_request {
    std::vector<llama_tokens> inputs;
    std::vector<std::vector<media_span>> media;  // of each input; empty when none has any
    std::string model;                           // as the client names it; ours otherwise
    bool native = false;                         // asked by "content", which is llama-server's own
    bool base64 = false;
    int32_t normalize = 2;  // see common_embd_normalize
};

struct rerank_request {
    std::vector<llama_tokens> inputs;  // the query with each document
    std::vector<std::string> texts;    // the documents, when they go into the answer
    std::string model;
    bool tei = false;  // the format of text-embeddings-inference, not Jina's
    size_t top_n = 0;
};

// Both throw error: unsupported when the server was not started for it, invalid_request, context_exceeded.
embedding_request parse_embedding_request(const model & model, std::string_view body, dialect dialect,
                                          const embedding_limits & limits);
rerank_request parse_rerank_request(const model & model, std::string_view body, const embedding_limits & limits);

}  // namespace pyllama
