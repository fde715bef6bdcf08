// The dialects of raw completions: controls in their streams, and the debugging aid around any dialect.
#include <string>
#include <vector>

#include "chat_fixture.h"
#include "completion_format.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

prepared_request raw(const std::string & fields, dialect dialect) {
    return prepare_completion(qwen3(), R"({"prompt":"Once","stream":true)" + fields + "}", dialect, {4096, 4});
}

control_note paused_at(int32_t position) {
    control_result result;
    result.success = true;
    result.applied = true;
    result.state = request_state::content;
    result.paused = true;
    result.position = position;
    return {control_action::pause, result};
}

void say(frame_writer & writer, const std::string & text, frame_sink & sink, int32_t choice = 0) {
    auto batch = cut(text, text.size());
    batch.front().choice = choice;
    writer.pieces(choice, batch, sink);
}

void end(frame_writer & writer, frame_sink & sink, int32_t n_choices = 1) {
    for (int32_t choice = 0; choice < n_choices; ++choice) {
        generation_result result;
        result.choice = choice;
        writer.finish(result, sink);
    }
    writer.end(sink);
}

std::vector<common_json> events(const collected_frames & sink) {
    std::vector<common_json> parsed;
    for (const std::string & frame : sink.frames) {
        CHECK_EQ(frame.substr(0, 6), "data: ");
        CHECK_EQ(frame.substr(frame.size() - 2), "\n\n");
        if (frame != "data: [DONE]\n\n") {
            parsed.push_back(common_json::parse(frame.substr(6)));
        }
    }
    return parsed;
}

constexpr const char * note =
    R"({"action":"pause","applied":true,"state":"content","paused":true,"position":1,"event_id":null})";

}  // namespace

TEST(a_control_stands_between_the_texts_of_a_text_completion) {
    const auto prepared = raw(R"(,"n":2,"reasoning_control":true)", dialect::openai);
    collected_frames sink;
    prepared.writer->start(sink);
    say(*prepared.writer, "upon", sink, 1);
    prepared.writer->control(1, paused_at(1), sink);
    say(*prepared.writer, " a", sink, 1);
    end(*prepared.writer, sink, 2);
    const auto told = events(sink);
    CHECK_EQ(told.size(), 5u);
    CHECK_EQ(told[1].at("control").dump(), note);
    CHECK_EQ(told[1].at("choices").dump(), R"([{"text":"","index":1,"logprobs":null,"finish_reason":null}])");
    CHECK_EQ(told[1].at("id").get<std::string>(), prepared.id);
    CHECK_EQ(told[1].at("object").get<std::string>(), "text_completion");
    for (const size_t i : {size_t{0}, size_t{2}, size_t{3}, size_t{4}}) {
        CHECK(!told[i].contains("control"));
    }
}

TEST(a_native_stream_that_allows_controls_tells_its_id) {
    for (const bool opted_in : {true, false}) {
        const auto prepared =
            raw(std::string(R"(,"n":2,"reasoning_control":)") + (opted_in ? "true" : "false"), dialect::native);
        collected_frames sink;
        prepared.writer->start(sink);
        say(*prepared.writer, "upon", sink, 1);
        if (opted_in) {
            prepared.writer->control(1, paused_at(1), sink);
        }
        end(*prepared.writer, sink, 2);
        const auto told = events(sink);
        CHECK_EQ(told.size(), opted_in ? 4u : 3u);
        CHECK_EQ(told[0].value("id", ""), opted_in ? prepared.id : "");
        if (opted_in) {
            CHECK_EQ(told[1].at("control").dump(), note);
            CHECK_EQ(told[1].at("id").get<std::string>(), prepared.id);
            CHECK_EQ(told[1].at("index").get<int>(), 1);
            CHECK_EQ(told[1].at("content").get<std::string>(), "");
            CHECK_EQ(told[1].at("tokens_predicted").get<int>(), 1);
            CHECK(!told[1].at("stop").get<bool>());
        }
    }
}

TEST(a_control_reaches_the_stream_of_a_verbose_request) {
    const auto chat = prepare(
        R"({"messages":[{"role":"user","content":"hi"}],"stream":true,"verbose":true,"reasoning_control":true})");
    const auto text = raw(R"(,"verbose":true,"reasoning_control":true)", dialect::openai);
    for (const prepared_request * prepared : {&chat, &text}) {
        collected_frames sink;
        prepared->writer->start(sink);
        prepared->writer->control(0, paused_at(1), sink);
        end(*prepared->writer, sink);
        size_t n_notes = 0;
        for (const common_json & event : events(sink)) {
            n_notes += event.contains("control") ? 1 : 0;
        }
        CHECK_EQ(n_notes, 1u);
    }
}

TEST(bodies_of_both_dialects_hold_every_choice) {
    for (const auto dialect : {dialect::native, dialect::openai}) {
        const auto prepared = prepare_completion(qwen3(), R"({"prompt":["Once","Twice"]})", dialect, {4096, 4});
        collected_frames sink;
        prepared.writer->start(sink);
        say(*prepared.writer, "upon", sink, 1);
        prepared.writer->control(0, paused_at(0), sink);  // nobody reads before the end
        end(*prepared.writer, sink, 2);
        CHECK_EQ(sink.frames.size(), 1u);
        const auto body = common_json::parse(sink.frames.front());
        const common_json & second = (dialect == dialect::native ? body : body.at("choices")).at(size_t{1});
        CHECK_EQ(second.at("index").get<int>(), 1);
        CHECK_EQ(second.at(dialect == dialect::native ? "content" : "text").get<std::string>(), "upon");
        CHECK(sink.frames.front().find("pause") == std::string::npos);
    }
}
