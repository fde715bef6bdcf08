#include "prompt_embedding.h"

#include "random_id.h"
#include "request_embedding.h"
#include "writer_embeddings.h"

namespace pyllama {

namespace {

prepared_request with_inputs(const char * prefix, std::vector<llama_tokens> inputs) {
    prepared_request prepared;
    prepared.id = prefix + random_id();
    prepared.inputs = std::move(inputs);
    prepared.embeddings = std::make_shared<embedding_results>();
    return prepared;
}

}  // namespace

prepared_request prepare_embedding(const model & model, std::string_view body, dialect dialect,
                                   const embedding_limits & limits) {
    embedding_request request = parse_embedding_request(model, body, dialect, limits);
    prepared_request prepared = with_inputs("embd-", std::move(request.inputs));
    prepared.input_media = std::move(request.media);
    prepared.writer = std::make_unique<writer_embeddings>(std::move(request), limits.pooling, prepared.embeddings);
    return prepared;
}

prepared_request prepare_rerank(const model & model, std::string_view body, const embedding_limits & limits) {
    rerank_request request = parse_rerank_request(model, body, limits);
    prepared_request prepared = with_inputs("rerank-", std::move(request.inputs));
    prepared.writer = std::make_unique<writer_rerank>(std::move(request), prepared.embeddings);
    return prepared;
}

}  // namespace pyllama
