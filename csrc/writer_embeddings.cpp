#include "writer_embeddings.h"

#include <algorithm>

#include "base64.hpp"
#include "common.h"
#include "json_text.h"

namespace pyllama {

namespace {

void append_floats(std::string & out, const std::vector<float> & row) {
    out += '[';
    for (size_t i = 0; i < row.size(); ++i) {
        out += i > 0 ? "," : "";
        append_number(out, row[i]);
    }
    out += ']';
}

// "model":...,"object":"list","usage":{...}
std::string list_members(const std::string & model, const generation_result & result) {
    const std::string n = std::to_string(result.n_prompt_tokens);
    return "\"model\":" + json_quoted(model) + ",\"object\":\"list\",\"usage\":{\"prompt_tokens\":" + n +
           ",\"total_tokens\":" + n + "}";
}

}  // namespace

writer_embeddings::writer_embeddings(embedding_request request, enum llama_pooling_type pooling,
                                     std::shared_ptr<const embedding_results> results)
    : request_(std::move(request)), pooling_(pooling), results_(std::move(results)) {}

// Only what is pooled is normalised.
void writer_embeddings::append_row(std::string & out, const std::vector<float> & row) const {
    std::vector<float> shown = row;
    if (pooling_ != LLAMA_POOLING_TYPE_NONE) {
        common_embd_normalize(row.data(), shown.data(), static_cast<int>(row.size()), request_.normalize);
    }
    if (request_.base64) {
        const auto * bytes = reinterpret_cast<const char *>(shown.data());
        append_quoted(out, base64::encode(bytes, shown.size() * sizeof(float)));
    } else {
        append_floats(out, shown);
    }
}

std::string writer_embeddings::native_body() const {
    std::string body = "[";
    for (size_t i = 0; i < results_->rows.size(); ++i) {
        body += i > 0 ? "," : "";
        body += "{\"index\":" + std::to_string(i) + ",\"embedding\":[";
        for (const auto & row : results_->rows[i]) {
            body += body.back() == '[' ? "" : ",";
            append_row(body, row);
        }
        body += "]}";
    }
    return body + "]";
}

std::string writer_embeddings::openai_body(const generation_result & result) const {
    std::string body = "{" + list_members(request_.model, result) + ",\"data\":[";
    for (size_t i = 0; i < results_->rows.size(); ++i) {
        body += i > 0 ? ",{\"embedding\":" : "{\"embedding\":";
        append_row(body, results_->rows[i].front());
        body += ",\"index\":" + std::to_string(i) + ",\"object\":\"embedding\"";
        body += request_.base64 ? ",\"encoding_format\":\"base64\"}" : "}";
    }
    return body + "]}";
}

void writer_embeddings::finish(const generation_result & result, frame_sink & sink) {
    sink.frame(request_.native ? native_body() : openai_body(result));
}

writer_rerank::writer_rerank(rerank_request request, std::shared_ptr<const embedding_results> results)
    : request_(std::move(request)), results_(std::move(results)) {}

void writer_rerank::finish(const generation_result & result, frame_sink & sink) {
    std::vector<std::pair<float, size_t>> ranks;
    for (size_t i = 0; i < results_->rows.size(); ++i) {
        ranks.emplace_back(results_->rows[i].front().front(), i);
    }
    std::stable_sort(ranks.begin(), ranks.end(), [](const auto & a, const auto & b) { return a.first > b.first; });
    ranks.resize(std::min(ranks.size(), request_.top_n));

    std::string list = "[";
    for (const auto & [score, index] : ranks) {
        list += list.back() == '[' ? "" : ",";
        list += "{\"index\":" + std::to_string(index);
        list += request_.tei ? ",\"score\":" : ",\"relevance_score\":";
        append_number(list, score);
        if (!request_.texts.empty()) {
            list += ",\"text\":" + json_quoted(request_.texts[index]);
        }
        list += '}';
    }
    list += ']';
    sink.frame(request_.tei ? list : "{" + list_members(request_.model, result) + ",\"results\":" + list + "}");
}

}  // namespace pyllama
