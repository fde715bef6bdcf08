// The answers that are made of embeddings, each one JSON body: OpenAI's list, llama-server's own, and the two formats
// of reranking. A failure writes nothing: the session carries it, and HTTP answers with its status.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "embedding.h"
#include "frame_writer.h"
#include "request_embedding.h"

namespace pyllama {

class writer_embeddings : public frame_writer {
  public:
    // The inputs of the request are not needed here.
    writer_embeddings(embedding_request request, enum llama_pooling_type pooling,
                      std::shared_ptr<const embedding_results> results);

    void start(frame_sink &) override {}
    void pieces(int32_t, std::vector<piece> &, frame_sink &) override {}
    void finish(const generation_result & result, frame_sink & sink) override;
    void end(frame_sink &) override {}
    void fail(const error &, frame_sink &) override {}
    std::string_view content_type() const override { return "application/json"; }

  private:
    std::string native_body() const;
    std::string openai_body(const generation_result & result) const;
    void append_row(std::string & out, const std::vector<float> & row) const;

    embedding_request request_;
    enum llama_pooling_type pooling_;
    std::shared_ptr<const embedding_results> results_;
};

class writer_rerank : public frame_writer {
  public:
    writer_rerank(rerank_request request, std::shared_ptr<const embedding_results> results);

    void start(frame_sink &) override {}
    void pieces(int32_t, std::vector<piece> &, frame_sink &) override {}
    void finish(const generation_result & result, frame_sink & sink) override;
    void end(frame_sink &) override {}
    void fail(const error &, frame_sink &) override {}
    std::string_view content_type() const override { return "application/json"; }

  private:
    rerank_request request_;
    std::shared_ptr<const embedding_results> results_;
};

}  // namespace pyllama
