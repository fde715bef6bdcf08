#include "writer_decision.h"

#include <algorithm>
#include <cmath>

#include "json_text.h"

namespace pyllama {

writer_decision::writer_decision(decision_format format)
    : format_(std::move(format)), scores_(format_.questions.size()) {}

void writer_decision::pieces(int32_t choice, std::vector<piece> & batch, frame_sink &) {
    for (const piece & each : batch) {
        if (each.logprobs) {
            for (const token_logprob & label : each.logprobs->top) {
                scores_[static_cast<size_t>(choice)].push_back(label.logprob);
            }
        }
    }
}

void writer_decision::finish(const generation_result & result, frame_sink &) {
    n_prompt_tokens_ += result.n_prompt_tokens;
}

void writer_decision::read_outputs() {
    for (size_t i = 0; i < scores_.size(); ++i) {
        const auto column = static_cast<size_t>(format_.questions[i].kind);
        for (const size_t marker : format_.markers[i]) {
            scores_[i].push_back(format_.outputs->rows[i][marker][column]);
        }
    }
}

void writer_decision::end(frame_sink & sink) {
    if (format_.outputs) {
        read_outputs();
    }
    std::string body = "{\"model\":" + json_quoted(format_.model) + ",\"answers\":{";
    for (size_t i = 0; i < scores_.size(); ++i) {
        const std::vector<float> & scores = scores_[i];
        const bool whole = scores.size() == format_.questions[i].options.size() &&
                           std::all_of(scores.begin(), scores.end(), [](float score) { return std::isfinite(score); });
        if (!whole) {
            throw error(error_kind::engine, "the model could not evaluate the decision");
        }
        body += i > 0 ? "," : "";
        append_quoted(body, format_.questions[i].id);
        body += ":" + format_.rules->answer(format_.questions[i], scores);
    }
    body += "},\"usage\":{\"input_tokens\":" + std::to_string(n_prompt_tokens_) + ",\"output_tokens\":0}}";
    sink.frame(body);
}

}  // namespace pyllama
