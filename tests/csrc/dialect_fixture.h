// What the tests of the dialects with blocks share: an answer fed through a request's writer, and its events.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "chat_fixture.h"
#include "errors.h"

namespace pyllama_test {

inline pyllama::generation_result ended(pyllama::finish_reason reason = pyllama::finish_reason::stop) {
    pyllama::generation_result result;
    result.reason = reason;
    result.n_prompt_tokens = 10;
    result.n_reasoning_tokens = 2;
    result.timings.n_cached = 4;
    result.timings.n_prompt = 6;
    result.timings.n_decoded = 5;
    return result;
}

inline pyllama::prefill_progress started() {
    pyllama::prefill_progress progress;
    progress.n_total = 10;
    progress.n_cached = progress.n_processed = 4;
    return progress;
}

// The frames of an answer that comes five bytes at a time.
inline collected_frames answer(const std::string & body, pyllama::dialect dialect, const std::string & text,
                               const pyllama::generation_result & result = ended(), bool with_logprobs = false) {
    auto prepared = prepare(body, dialect);
    collected_frames sink;
    prepared.writer->start(sink);
    if (prepared.params.return_progress) {
        prepared.writer->progress(started(), sink);
    }
    for (auto & value : cut(text, 5)) {
        if (with_logprobs) {
            value.logprobs = std::make_unique<pyllama::piece_logprobs>();
            value.logprobs->logprob = -0.5f;
        }
        std::vector<pyllama::piece> batch;
        batch.push_back(std::move(value));
        prepared.writer->pieces(0, batch, sink);
    }
    prepared.writer->finish(result, sink);
    prepared.writer->end(sink);
    return sink;
}

// The data of named events: each frame is one, and its name is its type.
inline std::vector<common_json> events_of(const collected_frames & sink) {
    std::vector<common_json> events;
    for (const std::string & frame : sink.frames) {
        const size_t end = frame.find('\n');
        CHECK_EQ(frame.substr(0, 7), "event: ");
        CHECK_EQ(frame.substr(end + 1, 6), "data: ");
        CHECK_EQ(frame.substr(frame.size() - 2), "\n\n");
        const std::string name = frame.substr(7, end - 7);
        const std::string data = frame.substr(end + 7);
        CHECK_EQ(data.substr(0, 9 + name.size()), "{\"type\":\"" + name);
        events.push_back(common_json::parse(data));
    }
    return events;
}

inline std::string types_of(const std::vector<common_json> & events) {
    std::string all;
    for (const common_json & event : events) {
        all += (all.empty() ? "" : " ") + event.at("type").get<std::string>();
    }
    return all;
}

// The same, runs of one type shown once.
inline std::string shape_of(const std::vector<common_json> & events) {
    std::string all;
    std::string last;
    for (const common_json & event : events) {
        const auto type = event.at("type").get<std::string>();
        all += type == last ? "" : (all.empty() ? "" : " ") + type;
        last = type;
    }
    return all;
}

// The field that the error names; "-" when there is none.
inline std::string refused(const std::string & body, pyllama::dialect dialect,
                           pyllama::error_kind kind = pyllama::error_kind::invalid_request) {
    try {
        prepare(body, dialect);
    } catch (const pyllama::error & reason) {
        CHECK(reason.kind == kind);
        return reason.param;
    }
    return "-";
}

// The prompt that the template makes of a body.
inline std::string prompt_of(const std::string & body, pyllama::dialect dialect) {
    return pyllama::render_chat(*qwen3(), body, dialect);
}

}  // namespace pyllama_test
