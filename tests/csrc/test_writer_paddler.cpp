#include <algorithm>

#include "chat_fixture.h"
#include "errors.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

const std::string hello = R"("messages":[{"role":"user","content":"hi"}])";
const std::string tools =
    R"(,"tools":[{"type":"function","function":{"name":"add","description":"","parameters":{"type":"object","properties":{"a":{"type":"integer"}}}}}])";

generation_result finished(finish_reason reason = finish_reason::stop) {
    generation_result result;
    result.reason = reason;
    result.n_prompt_tokens = 10;
    result.n_reasoning_tokens = 2;
    result.timings.n_cached = 4;
    result.timings.n_decoded = 40;
    return result;
}

// The frames of an answer; each must be one line.
std::vector<common_json> lines(prepared_request & prepared, const std::string & text,
                               const generation_result & result = finished(), size_t length = 5) {
    collected_frames sink;
    prepared.writer->start(sink);
    for (auto & value : cut(text, length)) {
        std::vector<piece> batch;
        batch.push_back(std::move(value));
        prepared.writer->pieces(0, batch, sink);
    }
    prepared.writer->finish(result, sink);
    prepared.writer->end(sink);
    std::vector<common_json> parsed;
    for (const std::string & frame : sink.frames) {
        CHECK_EQ(std::count(frame.begin(), frame.end(), '\n'), 1);
        CHECK_EQ(frame.back(), '\n');
        parsed.push_back(common_json::parse(frame));
    }
    return parsed;
}

std::string joined(const std::vector<common_json> & frames, const char * kind) {
    std::string all;
    for (const auto & frame : frames) {
        const common_json & token = frame.at("GeneratedToken");
        all += token.contains(kind) ? token.at(kind).get<std::string>() : std::string();
    }
    return all;
}

prepared_request raw_prompt(const std::string & body) {
    return prepare_completion(qwen3(), body, dialect::paddler, {4096, 4});
}

const common_json & done(const std::vector<common_json> & frames) {
    return frames.back().at("GeneratedToken").at("Done");
}

}  // namespace

TEST(an_answer_is_tokens_by_kind_and_done) {
    auto prepared = prepare("{" + hello + "}", dialect::paddler);
    CHECK(prepared.stream);
    CHECK_EQ(std::string(prepared.writer->content_type()), "application/x-ndjson");
    const auto frames = lines(prepared, "<think>\nhm\n</think>\n\nHello \"you\"\nthere");
    CHECK_EQ(joined(frames, "ReasoningToken"), "hm\n");
    CHECK_EQ(joined(frames, "ContentToken"), "Hello \"you\"\nthere");
    CHECK_EQ(
        frames.back().dump(),
        R"({"GeneratedToken":{"Done":{"finish":"EndOfGeneration","usage":{"prompt_tokens":10,"cached_prompt_tokens":4,"input_image_tokens":0,"input_audio_tokens":0,"content_tokens":38,"reasoning_tokens":2,"tool_call_tokens":0,"undeterminable_tokens":0}}}})");
}

TEST(how_it_ended) {
    generation_result cut_off = finished(finish_reason::length);
    cut_off.truncated = true;
    generation_result stopped = finished();
    stopped.cut = true;
    const std::pair<generation_result, const char *> cases[] = {
        {finished(), "EndOfGeneration"}, {finished(finish_reason::length), "MaxTokens"},
        {cut_off, "ContextFull"},        {finished(finish_reason::cancelled), "StopRequested"},
        {stopped, "StopRequested"},
    };
    for (const auto & [result, name] : cases) {
        auto prepared = prepare("{" + hello + "}", dialect::paddler);
        CHECK_EQ(done(lines(prepared, "x", result)).at("finish").get<std::string>(), name);
    }
}

TEST(tool_calls_have_one_form) {
    const std::string answer =
        "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\":\n 1}}\n</tool_call>\n"
        "<tool_call>\n{\"name\": \"add\", \"arguments\": {}}\n</tool_call>";
    for (const bool parse : {false, true}) {
        const std::string flag = parse ? R"(,"parse_tool_calls":true)" : "";
        auto prepared = prepare("{" + hello + tools + R"(,"parallel_tool_calls":true)" + flag + "}", dialect::paddler);
        const auto frames = lines(prepared, answer, finished(), 3);
        const std::string text = joined(frames, "ToolCallToken");
        CHECK_EQ(std::count(text.begin(), text.end(), '}') - 3, std::count(text.begin(), text.end(), '{') - 3);
        const size_t end = text.find("}\n{\"name\"");
        CHECK(end != std::string::npos);
        CHECK_EQ(common_json::parse(text.substr(0, end + 1)).at("arguments").at("a").get<int>(), 1);
        CHECK_EQ(common_json::parse(text.substr(end + 1)).at("name").get<std::string>(), "add");
        CHECK_EQ(done(frames).at("usage").at("tool_call_tokens").get<int>() > 20, true);
        const common_json & before = frames[frames.size() - 2].at("GeneratedToken");
        CHECK_EQ(before.contains("ToolCallParsed"), parse);
        if (parse) {
            const common_json & calls = before.at("ToolCallParsed");
            CHECK_EQ(calls.size(), 2u);
            CHECK_EQ(calls.at(size_t{0}).at("name").get<std::string>(), "add");
            CHECK(!calls.at(size_t{0}).at("id").get<std::string>().empty());
            CHECK_EQ(calls.at(size_t{0}).at("arguments").at("ValidJson").at("a").get<int>(), 1);
            CHECK(calls.at(size_t{1}).at("arguments").at("ValidJson").empty());
        }
    }
}

TEST(a_call_that_is_cut_is_told_as_text) {
    auto prepared = prepare("{" + hello + tools + R"(,"parse_tool_calls":true})", dialect::paddler);
    const auto frames =
        lines(prepared, "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\":", finished(finish_reason::length), 3);
    const common_json & call =
        frames[frames.size() - 2].at("GeneratedToken").at("ToolCallParsed").at(size_t{0}).at("arguments");
    CHECK(call.contains("InvalidJson"));
    CHECK_EQ(call.at("InvalidJson").get<std::string>().substr(0, 4), "{\"a\"");
}

TEST(failures_and_controls) {
    auto prepared = prepare("{" + hello + R"(,"reasoning_control":true})", dialect::paddler);
    collected_frames sink;
    prepared.writer->start(sink);
    control_note note;
    note.result.state = request_state::content;
    note.result.applied = true;
    prepared.writer->control(0, note, sink);
    prepared.writer->fail(error(error_kind::unavailable, "the \"end\""), sink);
    CHECK_EQ(sink.frames.size(), 2u);
    CHECK_EQ(common_json::parse(sink.frames[0]).at("Control").at("action").get<std::string>(), "stop");
    CHECK_EQ(sink.frames[1], "{\"Error\":{\"code\":503,\"description\":\"the \\\"end\\\"\"}}\n");
}

TEST(raw_prompts_and_several_answers) {
    auto raw = raw_prompt(R"({"prompt":"hi"})");
    CHECK(raw.stream);
    CHECK_EQ(joined(lines(raw, "<think>x"), "ContentToken"), "<think>x");
    for (const char * body : {R"({"prompt":"hi","n":2})", R"({"prompt":["hi","you"]})"}) {
        CHECK_THROWS(error, raw_prompt(body));
    }
    CHECK_THROWS(error, prepare("{" + hello + R"(,"n":2})", dialect::paddler));
}
