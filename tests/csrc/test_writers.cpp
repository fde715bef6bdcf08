#include <algorithm>

#include "chat_fixture.h"
#include "errors.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

const std::string hello = R"("messages":[{"role":"user","content":"hi"}])";
const std::string answer_text = "<think>\nhm\n</think>\n\nHello \"you\"";

generation_result finished(finish_reason reason = finish_reason::stop) {
    generation_result result;
    result.reason = reason;
    result.n_prompt_tokens = 10;
    result.n_reasoning_tokens = 2;
    result.timings.n_cached = 4;
    result.timings.n_prompt = 6;
    result.timings.n_decoded = 5;
    result.timings.prompt_ms = 3;
    result.timings.decode_ms = 50;
    return result;
}

collected_frames write(const std::string & body, dialect dialect, const std::string & text,
                       const generation_result & result, bool with_logprobs = false) {
    auto prepared = prepare(body, dialect);
    collected_frames sink;
    prepared.writer->start(sink);
    for (auto & value : cut(text, 5)) {
        if (with_logprobs) {
            value.logprobs = std::make_unique<piece_logprobs>();
            value.logprobs->logprob = -0.5f;
            value.logprobs->top = {{value.token, -0.5f}, {2, -1.5f}};
        }
        std::vector<piece> batch;
        batch.push_back(std::move(value));
        prepared.writer->pieces(0, batch, sink);
    }
    prepared.writer->finish(result, sink);
    prepared.writer->end(sink);
    return sink;
}

// The JSON of each event; checks the framing and that [DONE] is last.
std::vector<common_json> chunks(const collected_frames & sink) {
    std::vector<common_json> parsed;
    CHECK_EQ(sink.frames.back(), "data: [DONE]\n\n");
    for (size_t i = 0; i + 1 < sink.frames.size(); ++i) {
        const std::string & frame = sink.frames[i];
        CHECK_EQ(frame.substr(0, 6), "data: ");
        CHECK_EQ(frame.substr(frame.size() - 2), "\n\n");
        parsed.push_back(common_json::parse(frame.substr(6)));
    }
    return parsed;
}

std::string joined(const std::vector<common_json> & events, const char * member) {
    std::string all;
    for (const common_json & event : events) {
        const common_json & choices = event.at("choices");
        if (!choices.empty() && choices.at(size_t{0}).at("delta").contains(member) &&
            choices.at(size_t{0}).at("delta").at(member).is_string()) {
            all += choices.at(size_t{0}).at("delta").at(member).get<std::string>();
        }
    }
    return all;
}

const common_json & choice(const common_json & event) {
    return event.at("choices").at(size_t{0});
}

}  // namespace

TEST(a_stream_is_role_deltas_finish_done) {
    const auto events = chunks(write("{" + hello + R"(,"stream":true})", dialect::openai, answer_text, finished()));
    CHECK_EQ(choice(events.front()).at("delta").dump(), R"({"role":"assistant","content":null})");
    CHECK_EQ(joined(events, "reasoning_content"), "hm\n");
    CHECK_EQ(joined(events, "content"), "Hello \"you\"");
    CHECK_EQ(choice(events.back()).at("finish_reason").get<std::string>(), "stop");
    CHECK_EQ(choice(events.back()).at("delta").dump(), "{}");
    CHECK_EQ(events.back().at("timings").at("predicted_per_second").get<double>(), 80.0);
    for (const auto & event : events) {
        CHECK_EQ(event.at("object").get<std::string>(), "chat.completion.chunk");
        CHECK_EQ(event.at("model").get<std::string>(), "test-model");
        CHECK_EQ(event.at("id").get<std::string>(), events.front().at("id").get<std::string>());
        CHECK_EQ(event.at("system_fingerprint").get<std::string>().substr(0, 7), "b11549-");
        CHECK(!event.contains("usage"));
    }
}

TEST(usage_comes_last_with_no_choices) {
    const auto events = chunks(write("{" + hello + R"(,"stream":true,"stream_options":{"include_usage":true}})",
                                     dialect::openai, answer_text, finished(finish_reason::length)));
    CHECK(events.back().at("choices").empty());
    const auto & usage = events.back().at("usage");
    CHECK_EQ(usage.at("prompt_tokens").get<int>(), 10);
    CHECK_EQ(usage.at("completion_tokens").get<int>(), 5);
    CHECK_EQ(usage.at("total_tokens").get<int>(), 15);
    CHECK_EQ(usage.at("prompt_tokens_details").at("cached_tokens").get<int>(), 4);
    CHECK_EQ(usage.at("completion_tokens_details").at("reasoning_tokens").get<int>(), 2);
    CHECK_EQ(choice(events[events.size() - 2]).at("finish_reason").get<std::string>(), "length");
    CHECK(events.back().contains("timings") && !events[events.size() - 2].contains("timings"));
}

TEST(logprobs_name_every_token_once) {
    const auto events = chunks(write("{" + hello + R"(,"stream":true,"logprobs":true,"top_logprobs":2})",
                                     dialect::openai, answer_text, finished(), true));
    size_t n_tokens = 0;
    for (const auto & event : events) {
        if (choice(event).contains("logprobs")) {
            for (const auto & token : choice(event).at("logprobs").at("content")) {
                ++n_tokens;
                CHECK_EQ(token.at("logprob").get<double>(), -0.5);
                CHECK_EQ(token.at("token").get<std::string>(), qwen3()->piece(1, true));
                CHECK_EQ(token.at("top_logprobs").size(), 2u);
            }
        }
    }
    CHECK_EQ(n_tokens, cut(answer_text, 5).size());
}

TEST(pieces_with_timings_make_chunks_with_the_newest) {
    const auto fed = [](dialect dialect) {
        auto prepared = prepare("{" + hello + R"(,"stream":true,"timings_per_token":true})", dialect);
        CHECK(prepared.params.timings_per_token);
        collected_frames sink;
        prepared.writer->start(sink);
        for (int n = 1; n <= 2; ++n) {
            auto batch = cut("ab", 1);
            for (auto & value : batch) {
                value.timings = std::make_unique<generation_timings>();
                value.timings->n_decoded = 2 * n;
            }
            batch.front().timings->n_decoded = 2 * n - 1;
            prepared.writer->pieces(0, batch, sink);
        }
        prepared.writer->finish(finished(), sink);
        prepared.writer->end(sink);
        return sink;
    };
    const auto events = chunks(fed(dialect::openai));
    CHECK_EQ(events.size(), 4u);
    CHECK(!events[0].contains("timings"));
    CHECK_EQ(events[1].at("timings").at("predicted_n").get<int>(), 2);
    CHECK_EQ(events[2].at("timings").at("predicted_n").get<int>(), 4);
    CHECK_EQ(events[3].at("timings").at("predicted_n").get<int>(), 5);
    const auto lines = fed(dialect::deltas);
    CHECK_EQ(common_json::parse(lines.frames.at(1)).at("timings").at("predicted_n").get<int>(), 2);
}

TEST(progress_is_an_event_with_four_numbers) {
    prefill_progress progress;
    progress.n_total = 100;
    progress.n_cached = 10;
    progress.n_processed = 60;
    progress.elapsed_ms = 12.75;
    const std::string expected = R"({"total":100,"cache":10,"processed":60,"time_ms":12})";
    collected_frames stream;
    prepare("{" + hello + R"(,"stream":true})").writer->progress(progress, stream);
    const auto event = common_json::parse(stream.frames.at(0).substr(6));
    CHECK_EQ(event.at("prompt_progress").dump(), expected);
    CHECK_EQ(choice(event).at("delta").dump(), R"({"role":"assistant","content":null})");
    collected_frames deltas;
    prepare("{" + hello + "}", dialect::deltas).writer->progress(progress, deltas);
    const auto line = common_json::parse(deltas.frames.at(0));
    CHECK_EQ(line.at("type").get<std::string>(), "progress");
    CHECK_EQ(line.at("prompt_progress").dump(), expected);
}

TEST(progress_brings_timings_to_those_who_asked) {
    prefill_progress progress;
    progress.n_total = 100;
    progress.n_cached = 10;
    progress.n_processed = 60;
    progress.elapsed_ms = 25;
    collected_frames stream;
    const auto prepared = prepare("{" + hello + R"(,"stream":true,"timings_per_token":true,"return_progress":true})");
    prepared.writer->progress(progress, stream);
    const auto timings = common_json::parse(stream.frames.at(0).substr(6)).at("timings");
    CHECK_EQ(timings.at("cache_n").get<int>(), 10);
    CHECK_EQ(timings.at("prompt_n").get<int>(), 50);
    CHECK_EQ(timings.at("prompt_per_second").get<double>(), 2000.0);
    CHECK_EQ(timings.at("predicted_n").get<int>(), 0);
}

TEST(streams_alone_tell_timings_and_progress) {
    const std::string asked = R"(,"timings_per_token":true,"return_progress":true)";
    CHECK(prepare("{" + hello + asked + R"(,"stream":true})").params.return_progress);
    CHECK(!prepare("{" + hello + asked + "}").params.return_progress);
    CHECK(!prepare("{" + hello + asked + "}").params.timings_per_token);
    CHECK(prepare("{" + hello + asked + "}", dialect::deltas).params.return_progress);
}

TEST(a_body_is_one_completion) {
    const auto sink = write("{" + hello + "}", dialect::openai, answer_text, finished());
    CHECK_EQ(sink.frames.size(), 1u);
    const auto body = common_json::parse(sink.frames[0]);
    CHECK_EQ(body.at("object").get<std::string>(), "chat.completion");
    CHECK_EQ(choice(body).at("message").dump(),
             R"({"role":"assistant","content":"Hello \"you\"","reasoning_content":"hm\n"})");
    CHECK_EQ(choice(body).at("finish_reason").get<std::string>(), "stop");
    CHECK_EQ(body.at("usage").at("total_tokens").get<int>(), 15);
}

TEST(tool_calls_finish_as_such) {
    const std::string tools = R"(,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object",
        "properties":{"a":{"type":"string"}}}}}])";
    const std::string text = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"b\"}}\n</tool_call>";
    const auto sink = write("{" + hello + tools + "}", dialect::openai, text, finished());
    const auto body = common_json::parse(sink.frames.at(0));
    CHECK_EQ(choice(body).at("finish_reason").get<std::string>(), "tool_calls");
    const auto & call = choice(body).at("message").at("tool_calls").at(size_t{0});
    CHECK_EQ(call.at("type").get<std::string>(), "function");
    CHECK_EQ(call.at("function").at("name").get<std::string>(), "f");
    CHECK_EQ(common_json::parse(call.at("function").at("arguments").get<std::string>()).dump(), R"({"a":"b"})");
    CHECK(!call.at("id").get<std::string>().empty());
}

TEST(deltas_are_one_object_a_line) {
    auto result = finished(finish_reason::cancelled);
    result.stop_string = "END";
    const auto sink = write("{" + hello + "}", dialect::deltas, answer_text, result);
    std::string reasoning;
    std::string content;
    for (const auto & frame : sink.frames) {
        CHECK_EQ(frame.back(), '\n');
        CHECK_EQ(frame.find('\n'), frame.size() - 1);
        const auto line = common_json::parse(frame);
        if (line.at("type").get<std::string>() == "delta") {
            reasoning += line.value("reasoning", "");
            content += line.value("content", "");
        }
    }
    CHECK_EQ(reasoning, "hm\n");
    CHECK_EQ(content, "Hello \"you\"");
    CHECK_EQ(common_json::parse(sink.frames.front()).at("type").get<std::string>(), "start");
    const auto last = common_json::parse(sink.frames.back());
    CHECK_EQ(last.at("type").get<std::string>(), "finish");
    CHECK_EQ(last.at("finish_reason").get<std::string>(), "stop");
    CHECK_EQ(last.at("stop_string").get<std::string>(), "END");
}

namespace {

// Two choices that come by turns: the second one says other words, ends first, and fails if it is told to.
collected_frames write_two(const std::string & fields, dialect dialect, bool fails = false) {
    auto prepared = prepare("{" + hello + R"(,"n":2)" + fields + "}", dialect);
    CHECK_EQ(prepared.n_choices, 2);
    collected_frames sink;
    prepared.writer->start(sink);
    const auto texts = {cut(answer_text, 5), cut("<think>\nno\n</think>\n\nBye", 5)};
    for (size_t i = 0; i < texts.begin()->size(); ++i) {
        for (int32_t choice = 0; choice < 2; ++choice) {
            const auto & pieces = texts.begin()[choice];
            if (i < pieces.size()) {
                std::vector<piece> batch(1);
                batch[0].choice = choice;
                batch[0].token = pieces[i].token;
                batch[0].text = pieces[i].text;
                prepared.writer->pieces(choice, batch, sink);
            }
        }
    }
    for (const int32_t choice : {1, 0}) {
        auto result = finished();
        result.choice = choice;
        if (fails && choice == 1) {
            result.failure = error(error_kind::engine, "out of luck");
        }
        prepared.writer->finish(result, sink);
    }
    prepared.writer->end(sink);
    return sink;
}

}  // namespace

TEST(choices_of_a_stream_bear_their_index) {
    const auto events = chunks(write_two(R"(,"stream":true,"stream_options":{"include_usage":true})", dialect::openai));
    std::string content[2];
    std::string reasons[2];
    for (size_t i = 0; i + 1 < events.size(); ++i) {
        const auto index = choice(events[i]).at("index").get<size_t>();
        const common_json & delta = choice(events[i]).at("delta");
        if (i < 2) {
            CHECK_EQ(index, i);
            CHECK_EQ(delta.dump(), R"({"role":"assistant","content":null})");
        } else if (delta.contains("content")) {
            content[index] += delta.at("content").get<std::string>();
        }
        if (!choice(events[i]).at("finish_reason").is_null()) {
            reasons[index] += choice(events[i]).at("finish_reason").get<std::string>();
        }
    }
    CHECK_EQ(content[0], "Hello \"you\"");
    CHECK_EQ(content[1], "Bye");
    CHECK_EQ(reasons[0], "stop");
    CHECK_EQ(reasons[1], "stop");
    const auto & usage = events.back().at("usage");
    CHECK_EQ(usage.at("prompt_tokens").get<int>(), 10);
    CHECK_EQ(usage.at("completion_tokens").get<int>(), 10);
    CHECK_EQ(usage.at("prompt_tokens_details").at("cached_tokens").get<int>(), 4);
    CHECK_EQ(usage.at("completion_tokens_details").at("reasoning_tokens").get<int>(), 4);
    CHECK_EQ(events.back().at("timings").at("predicted_n").get<int>(), 10);
    CHECK_EQ(events.back().at("timings").at("predicted_ms").get<double>(), 50.0);
}

TEST(choices_of_a_body_are_in_order) {
    const auto body = common_json::parse(write_two("", dialect::openai).joined());
    CHECK_EQ(body.at("choices").size(), 2u);
    for (size_t i = 0; i < 2; ++i) {
        CHECK_EQ(body.at("choices").at(i).at("index").get<size_t>(), i);
    }
    CHECK_EQ(body.at("choices").at(size_t{1}).at("message").at("content").get<std::string>(), "Bye");
    CHECK_EQ(body.at("usage").at("completion_tokens").get<int>(), 10);
    CHECK_EQ(body.at("usage").at("total_tokens").get<int>(), 20);
}

TEST(a_failed_choice_keeps_its_text_and_says_why) {
    const auto body = common_json::parse(write_two("", dialect::openai, true).joined());
    const common_json & failed = body.at("choices").at(size_t{1});
    CHECK_EQ(failed.at("finish_reason").get<std::string>(), "error");
    CHECK_EQ(failed.at("error").at("message").get<std::string>(), "out of luck");
    CHECK_EQ(failed.at("message").at("content").get<std::string>(), "Bye");
    CHECK(!choice(body).contains("error"));
    const auto events = chunks(write_two(R"(,"stream":true)", dialect::openai, true));
    const auto failure = std::find_if(events.begin(), events.end(),
                                      [](const common_json & event) { return choice(event).contains("error"); });
    CHECK(failure != events.end());
    CHECK_EQ(choice(*failure).at("index").get<int>(), 1);
    CHECK_EQ(choice(*failure).at("finish_reason").get<std::string>(), "error");
    CHECK_EQ(choice(*failure).at("error").at("code").get<int>(), 500);
    CHECK_EQ(choice(events.back()).at("finish_reason").get<std::string>(), "stop");
}

TEST(choices_of_deltas_bear_their_index) {
    std::string content[2];
    for (const auto & frame : write_two("", dialect::deltas, true).frames) {
        const auto line = common_json::parse(frame);
        const auto index = line.value("index", size_t{0});
        content[index] += line.value("content", "");
        if (line.at("type").get<std::string>() == "finish") {
            CHECK_EQ(line.at("usage").at("completion_tokens").get<int>(), 5);
            CHECK_EQ(line.contains("error"), index == 1);
        }
    }
    CHECK_EQ(content[0], "Hello \"you\"");
    CHECK_EQ(content[1], "Bye");
}

TEST(failures_are_one_event_or_nothing) {
    const error reason(error_kind::engine, "decode failed");
    collected_frames stream;
    prepare("{" + hello + R"(,"stream":true})").writer->fail(reason, stream);
    CHECK_EQ(stream.joined(),
             "data: {\"error\":{\"code\":500,\"message\":\"decode failed\",\"type\":\"server_error\"}}\n\n");
    collected_frames body;
    prepare("{" + hello + "}").writer->fail(reason, body);
    CHECK(body.frames.empty());
    collected_frames deltas;
    prepare("{" + hello + "}", dialect::deltas).writer->fail(reason, deltas);
    CHECK_EQ(common_json::parse(deltas.joined()).at("type").get<std::string>(), "error");
}

TEST(invalid_utf8_never_reaches_a_client) {
    const auto sink = write("{" + hello + R"(,"stream":true})", dialect::openai, "a\xFF\xE2\x82 b", finished());
    CHECK_EQ(joined(chunks(sink), "content"), "a\xEF\xBF\xBD\xEF\xBF\xBD b");
}
