#include "dialect_fixture.h"

#include "request_responses.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

const std::string tool = R"("tools":[{"type":"function","name":"f","description":"d","parameters":{"type":"object",
    "properties":{"a":{"type":"string"}}}}])";
const std::string call_text =
    "<think>\nhm\n</think>\n\nWell\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"b\"}}\n</tool_call>";

std::string asked(const std::string & members) {
    return R"({"input":"hi")" + std::string(members.empty() ? "" : ",") + members + "}";
}

chat_request parsed(const std::string & body) {
    return parse_responses_request(*qwen3(), body);
}

std::string refused_with(const std::string & members) {
    return refused("{" + members + "}", dialect::responses);
}

std::vector<common_json> stream(const std::string & members, const std::string & text,
                                const generation_result & result = ended(), bool with_logprobs = false) {
    return events_of(answer(asked(members + (members.empty() ? "" : ",") + R"("stream":true)"), dialect::responses,
                            text, result, with_logprobs));
}

common_json body(const std::string & members, const std::string & text, const generation_result & result = ended(),
                 bool with_logprobs = false) {
    const auto sink = answer(asked(members), dialect::responses, text, result, with_logprobs);
    CHECK_EQ(sink.frames.size(), 1u);
    return common_json::parse(sink.frames.front());
}

const common_json & item(const common_json & response, size_t i) {
    return response.at("output").at(i);
}

// A response's items without their random ids.
std::string items_of(const common_json & response) {
    std::string all;
    for (const auto & each : response.at("output")) {
        common_json shown = each;
        shown["id"] = "";
        if (shown.contains("call_id")) {
            shown["call_id"] = "";
        }
        all += shown.dump();
    }
    return all;
}

}  // namespace

TEST(the_same_conversation_gives_the_same_prompt_as_a_chat) {
    const std::string responses = R"({"instructions":"Be kind.","input":[{"role":"user","content":"go"},
        {"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"I look."}]},
        {"type":"message","role":"assistant","content":[{"type":"output_text","text":"Looking"}]},
        {"type":"function_call","call_id":"call_1","name":"f","arguments":"{\"a\":\"b\"}"},
        {"type":"function_call_output","call_id":"call_1","output":[{"type":"input_text","text":"xy"}]},
        {"role":"user","content":[{"type":"input_text","text":"and?"}]}]})";
    const std::string chat = R"({"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"go"},
        {"role":"assistant","reasoning_content":"I look.","content":"Looking",
            "tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":\"b\"}"}}]},
        {"role":"tool","tool_call_id":"1","content":"xy"},{"role":"user","content":"and?"}]})";
    CHECK_EQ(prompt_of(responses, dialect::responses), prompt_of(chat, dialect::openai));
    CHECK_EQ(prompt_of(asked(""), dialect::responses),
             prompt_of(R"({"messages":[{"role":"user","content":"hi"}]})", dialect::openai));
}

TEST(ids_of_calls_are_those_of_the_template) {
    const auto r = parsed(R"({"input":[{"type":"function_call","call_id":"call_abc","name":"f","arguments":"{}"},
        {"type":"function_call_output","call_id":"call_abc","output":"x"},
        {"type":"function_call","call_id":"own","name":"f","arguments":""},
        {"type":"function_call_output","call_id":"own","output":"y"}]})");
    CHECK_EQ(r.inputs.messages.at(0).tool_calls.at(0).id, "abc");
    CHECK_EQ(r.inputs.messages.at(1).tool_call_id, "abc");
    CHECK_EQ(r.inputs.messages.at(2).tool_calls.at(0).id, "own");
    CHECK_EQ(r.inputs.messages.at(2).tool_calls.at(0).arguments, "{}");
}

TEST(reasoning_without_its_text_is_what_was_told_of_it) {
    const auto r = parsed(R"({"input":[{"type":"reasoning","summary":[{"type":"summary_text","text":"s"}],
        "encrypted_content":"x"},{"role":"assistant","content":"a"},{"role":"user","content":"b"}]})");
    CHECK_EQ(r.inputs.messages.size(), 2u);
    CHECK_EQ(r.inputs.messages[0].reasoning_content, "s");
    CHECK_EQ(r.inputs.messages[0].content, "a");
}

TEST(fields_arrive) {
    const auto r = parsed(asked(R"("max_output_tokens":7,"temperature":0.5,"top_p":0.25,"seed":5,"stream":true,
        "reasoning_control":true,"reasoning":{"effort":"high"},"include":["message.output_text.logprobs"],
        "top_logprobs":3,"stop":["x"])"));
    CHECK_EQ(r.n_predict, 7);
    CHECK_EQ(r.sampling.temp, 0.5f);
    CHECK_EQ(r.sampling.top_p, 0.25f);
    CHECK_EQ(r.sampling.seed, 5u);
    CHECK(r.stream);
    CHECK(r.sampling.reasoning_control);
    CHECK_EQ(r.inputs.chat_template_kwargs.at("reasoning_effort"), "\"high\"");
    CHECK_EQ(r.n_logprobs, 3);
    CHECK(r.stop == std::vector<std::string>({"x"}));
    CHECK(!parsed(asked(R"("reasoning":{"effort":"none"})")).inputs.enable_thinking);
    CHECK_EQ(parsed(asked(R"("include":["reasoning.encrypted_content"])")).n_logprobs, -1);
}

TEST(tools_and_their_choice) {
    CHECK_EQ(parsed(asked(tool)).inputs.tools.at(0).name, "f");
    CHECK(parsed(asked(R"("tools":[{"type":"web_search"}])")).inputs.tools.empty());
    const auto choice = [](const std::string & how) {
        return parsed(asked(tool + R"(,"tool_choice":)" + how)).inputs.tool_choice;
    };
    CHECK(choice("\"required\"") == COMMON_CHAT_TOOL_CHOICE_REQUIRED);
    CHECK(choice(R"({"type":"function","name":"f"})") == COMMON_CHAT_TOOL_CHOICE_REQUIRED);
    CHECK(choice("\"none\"") == COMMON_CHAT_TOOL_CHOICE_NONE);
}

TEST(formats_of_the_text) {
    const auto schema = [](const std::string & format) {
        return parsed(asked(R"("text":{"format":)" + format + "}")).inputs.json_schema;
    };
    CHECK_EQ(schema(R"({"type":"text"})"), "");
    CHECK_EQ(schema(R"({"type":"json_object"})"), R"({"type":"object"})");
    CHECK_EQ(schema(R"({"type":"json_schema","name":"n","strict":true,"schema":{"type":"integer"}})"),
             R"({"type":"integer"})");
}

TEST(errors_name_the_field) {
    const std::string hi = R"("input":"hi",)";
    CHECK_EQ(refused_with(""), "input");
    CHECK_EQ(refused_with(R"("input":5)"), "input");
    CHECK_EQ(refused_with(R"("input":[])"), "input");
    CHECK_EQ(refused_with(hi + R"("previous_response_id":"resp_1")"), "previous_response_id");
    CHECK_EQ(refused_with(hi + R"("previous_response_id":"")"), "-");
    CHECK_EQ(refused_with(hi + R"("conversation":{"id":"c"})"), "conversation");
    CHECK_EQ(refused_with(hi + R"("prompt":{"id":"p"})"), "prompt");
    CHECK_EQ(refused_with(hi + R"("store":1)"), "store");
    CHECK_EQ(refused_with(hi + R"("metadata":1)"), "metadata");
    CHECK_EQ(refused_with(hi + R"("instructions":1)"), "instructions");
    CHECK_EQ(refused_with(hi + R"("max_output_tokens":"x")"), "max_output_tokens");
    CHECK_EQ(refused_with(hi + R"("reasoning":{"effort":5})"), "reasoning.effort");
    CHECK_EQ(refused_with(hi + R"("n":2)"), "n");
    CHECK_EQ(refused_with(hi + R"("top_logprobs":21)"), "top_logprobs");
    CHECK_EQ(refused_with(hi + R"("include":"x")"), "include");
    CHECK_EQ(refused_with(hi + R"("tools":[5])"), "tools[0]");
    CHECK_EQ(refused_with(hi + R"("tools":[{"type":"function","parameters":{}}])"), "tools[0].name");
    CHECK_EQ(refused_with(hi + R"("tools":[{"type":"function","name":"f","parameters":{"type":"nothing"}}])"),
             "tools[0].parameters");
    CHECK_EQ(refused_with(hi + R"("tool_choice":{"type":"web_search"})"), "tool_choice.type");
    CHECK_EQ(refused_with(hi + R"("tool_choice":"required")"), "tool_choice");
    CHECK_EQ(refused_with(hi + R"("text":{"format":{"type":"x"}})"), "text.format.type");
    CHECK_EQ(refused_with(hi + R"("text":{"format":{"type":"json_schema"}})"), "text.format.schema");
    CHECK_EQ(refused_with(hi + R"("text":{"format":{"type":"json_schema","schema":{"type":"nothing"}}})"),
             "text.format.schema");
    const auto one = [](const std::string & json) { return refused_with(R"("input":[)" + json + "]"); };
    CHECK_EQ(one("5"), "input[0]");
    CHECK_EQ(one("{}"), "input[0].role");
    CHECK_EQ(one(R"({"role":"tool","content":""})"), "input[0].role");
    CHECK_EQ(one(R"({"role":"user"})"), "input[0].content");
    CHECK_EQ(one(R"({"role":"user","content":5})"), "input[0].content");
    CHECK_EQ(one(R"({"role":"user","content":[5]})"), "input[0].content[0]");
    CHECK_EQ(one(R"({"role":"user","content":[{"type":"input_file","file_id":"f"}]})"), "input[0].content[0]");
    CHECK_EQ(one(R"({"role":"user","content":[{"type":"input_image","image_url":"u"}]})"), "input[0].content[0]");
    CHECK_EQ(one(R"({"role":"user","content":[{"type":"x"}]})"), "input[0].content[0].type");
    CHECK_EQ(one(R"({"role":"user","content":[{"type":"input_text"}]})"), "input[0].content[0].text");
    CHECK_EQ(one(R"({"type":"item_reference","id":"x"})"), "input[0]");
    CHECK_EQ(one(R"({"type":"computer_call"})"), "input[0].type");
    CHECK_EQ(one(R"({"type":"function_call","name":"f","arguments":"{}"})"), "input[0].call_id");
    CHECK_EQ(one(R"({"type":"function_call","call_id":"1","arguments":"{}"})"), "input[0].name");
    CHECK_EQ(one(R"({"type":"function_call_output","call_id":"1"})"), "input[0].output");
    CHECK_EQ(one(R"({"type":"reasoning","content":5})"), "input[0].content");
    // Ends with a call that has no result: nothing can follow.
    CHECK_EQ(one(R"({"type":"function_call","call_id":"1","name":"f","arguments":"{}"})"), "input[0]");
}

TEST(a_stream_is_numbered_and_every_item_opens_and_closes) {
    const auto events = stream(tool, call_text);
    CHECK_EQ(shape_of(events),
             "response.created response.in_progress "
             "response.output_item.added response.content_part.added response.reasoning_text.delta "
             "response.reasoning_text.done response.content_part.done response.output_item.done "
             "response.output_item.added response.content_part.added response.output_text.delta "
             "response.output_text.done response.content_part.done response.output_item.done "
             "response.output_item.added response.function_call_arguments.delta "
             "response.function_call_arguments.done response.output_item.done "
             "response.completed");
    std::string id;
    std::string text;
    for (size_t i = 0; i < events.size(); ++i) {
        const common_json & event = events[i];
        CHECK_EQ(event.at("sequence_number").get<size_t>(), i);
        const auto type = event.at("type").get<std::string>();
        if (type == "response.output_item.added") {
            id = event.at("item").at("id").get<std::string>();
            text.clear();
        } else if (type == "response.output_item.done") {
            CHECK_EQ(event.at("item").at("id").get<std::string>(), id);
        } else if (event.contains("item_id")) {
            CHECK_EQ(event.at("item_id").get<std::string>(), id);
        }
        if (event.contains("delta")) {
            text += event.at("delta").get<std::string>();
        }
        for (const char * whole : {"text", "arguments"}) {
            if (event.contains(whole)) {
                CHECK_EQ(event.at(whole).get<std::string>(), text);
            }
        }
    }
    const auto & response = events.back().at("response");
    CHECK_EQ(response.at("id").get<std::string>().substr(0, 5), "resp_");
    CHECK_EQ(response.at("status").get<std::string>(), "completed");
    CHECK_EQ(response.at("usage").at("input_tokens").get<int>(), 10);
    CHECK_EQ(response.at("usage").at("input_tokens_details").at("cached_tokens").get<int>(), 4);
    CHECK_EQ(response.at("usage").at("output_tokens").get<int>(), 5);
    CHECK_EQ(response.at("usage").at("output_tokens_details").at("reasoning_tokens").get<int>(), 2);
    CHECK_EQ(response.at("usage").at("total_tokens").get<int>(), 15);
    const std::string call_id = item(response, 2).at("call_id").get<std::string>();
    CHECK_EQ(call_id.substr(0, 5), "call_");
    CHECK_EQ(item(response, 2).at("id").get<std::string>(), "fc_" + call_id.substr(5));
    CHECK_EQ(items_of(response), items_of(body(tool, call_text)));
    CHECK_EQ(item(response, 0).at("id").get<std::string>().substr(0, 3), "rs_");
    CHECK_EQ(item(response, 1).at("id").get<std::string>().substr(0, 4), "msg_");
}

TEST(a_cut_answer_is_incomplete) {
    const auto events = stream("", "<think>\nhm\n</think>\n\nWel", ended(finish_reason::length));
    CHECK_EQ(events.back().at("type").get<std::string>(), "response.incomplete");
    const auto & response = events.back().at("response");
    CHECK_EQ(response.at("status").get<std::string>(), "incomplete");
    CHECK_EQ(response.at("incomplete_details").at("reason").get<std::string>(), "max_output_tokens");
    CHECK_EQ(item(response, 0).at("status").get<std::string>(), "completed");
    CHECK_EQ(item(response, 1).at("status").get<std::string>(), "incomplete");
    CHECK_EQ(body("", "x", ended(finish_reason::length)).at("status").get<std::string>(), "incomplete");
    // Who asks for llama-server's telemetry looks for llama-server's last event.
    const auto telemetry = stream(R"("timings_per_token":true)", "x", ended(finish_reason::length));
    CHECK_EQ(telemetry.back().at("type").get<std::string>(), "response.completed");
    CHECK_EQ(telemetry.back().at("response").at("status").get<std::string>(), "incomplete");
}

TEST(an_answer_that_fails_says_so_twice) {
    auto prepared = prepare(asked(R"("stream":true)"), dialect::responses);
    collected_frames sink;
    prepared.writer->start(sink);
    auto batch = cut("<think>\nhm\n</think>\n\nHello", 99);
    prepared.writer->pieces(0, batch, sink);
    prepared.writer->fail(error(error_kind::engine, "broken"), sink);
    const std::string last = sink.frames.back();
    sink.frames.pop_back();
    const auto events = events_of(sink);
    CHECK_EQ(events.back().at("type").get<std::string>(), "response.failed");
    const auto & response = events.back().at("response");
    CHECK_EQ(response.at("status").get<std::string>(), "failed");
    CHECK_EQ(response.at("error").at("message").get<std::string>(), "broken");
    CHECK_EQ(item(response, 1).at("status").get<std::string>(), "incomplete");
    CHECK_EQ(common_json::parse(last.substr(6)).at("error").at("message").get<std::string>(), "broken");
}

TEST(logprobs_of_the_text_are_all_told_once) {
    const std::string text = "<think>\nhm, let me see\n</think>\n\nHello to you, and you";
    const std::string asks = R"("include":["message.output_text.logprobs"])";
    const auto events = stream(asks, text, ended(), true);
    size_t n = 0;
    for (const auto & event : events) {
        if (event.at("type").get<std::string>() == "response.output_text.delta") {
            n += event.at("logprobs").size();
        }
    }
    const auto & part = item(events.back().at("response"), 1).at("content").at(size_t{0});
    // Its own five, and those before it that came in one delta with its first text.
    CHECK(n >= 5 && n <= 11);
    CHECK_EQ(part.at("logprobs").size(), n);
    const auto whole = body(asks, text, ended(), true);
    CHECK(item(whole, 1).at("content").at(size_t{0}).at("logprobs").size() >= 5);
    CHECK_EQ(stream("", text)
                 .back()
                 .at("response")
                 .at("output")
                 .at(size_t{1})
                 .at("content")
                 .at(size_t{0})
                 .at("logprobs")
                 .size(),
             0u);
}

TEST(an_answer_repeats_the_request_unless_it_is_large) {
    const auto response = body(tool + R"(,"instructions":"x","metadata":{"a":"b"},"temperature":0.5)", "x");
    CHECK_EQ(response.at("instructions").get<std::string>(), "x");
    CHECK_EQ(response.at("metadata").at("a").get<std::string>(), "b");
    CHECK_EQ(response.at("tools").at(size_t{0}).at("name").get<std::string>(), "f");
    CHECK_EQ(response.at("temperature").get<double>(), 0.5);
    CHECK_EQ(response.at("tool_choice").get<std::string>(), "auto");
    CHECK(!response.at("store").get<bool>());
    std::string large(size_t{70} * 1024, 'x');
    for (size_t i = 0; i < large.size(); i += 10) {
        large[i] = ' ';
    }
    const auto short_one = prepare(asked(R"("instructions":")" + large + "\""), dialect::responses, qwen3(), 1 << 20);
    collected_frames sink;
    short_one.writer->finish(ended(), sink);
    short_one.writer->end(sink);
    CHECK(common_json::parse(sink.frames.at(0)).at("instructions").is_null());
}

TEST(progress_and_timings_are_told_to_those_who_ask) {
    auto prepared =
        prepare(asked(R"("stream":true,"timings_per_token":true,"return_progress":true)"), dialect::responses);
    collected_frames sink;
    prepared.writer->start(sink);
    prepared.writer->progress(started(), sink);
    auto batch = cut("<think>\nhm\n</think>\n\nHello", 99);
    batch.front().timings = std::make_unique<generation_timings>();
    prepared.writer->pieces(0, batch, sink);
    prepared.writer->finish(ended(), sink);
    prepared.writer->end(sink);
    const auto events = events_of(sink);
    CHECK_EQ(events[2].at("type").get<std::string>(), "response.in_progress");
    CHECK_EQ(events[2].at("prompt_progress").at("total").get<int>(), 10);
    CHECK_EQ(events[2].at("response").at("id").get<std::string>(),
             events[0].at("response").at("id").get<std::string>());
    bool any = false;
    for (const auto & event : events) {
        any = any || (event.contains("delta") && event.contains("timings"));
    }
    CHECK(any);
    CHECK(events.back().contains("timings"));
}

TEST(an_answer_in_the_background_is_a_stream_with_a_receipt) {
    auto prepared = prepare(asked(R"("background":true,"metadata":{"a":"b"})"), dialect::responses);
    CHECK(prepared.background && !prepared.stream);
    CHECK_EQ(prepared.writer->content_type(), "text/event-stream");
    const auto receipt = common_json::parse(prepared.receipt);
    CHECK_EQ(receipt.at("id").get<std::string>(), prepared.id);
    CHECK_EQ(receipt.at("status").get<std::string>(), "queued");
    CHECK(receipt.at("background").get<bool>());
    CHECK_EQ(receipt.at("metadata").at("a").get<std::string>(), "b");
    CHECK(prepare(asked(R"("background":true,"stream":true)"), dialect::responses).stream);
    CHECK(prepare(asked(R"("background":false)"), dialect::responses).receipt.empty());
    CHECK_EQ(refused_with(R"("input":"hi","background":1)"), "background");
}

TEST(an_answer_that_was_cancelled_says_so) {
    const auto events = stream("", "<think>\nhm\n</think>\n\nWel", ended(finish_reason::cancelled));
    CHECK_EQ(events.back().at("type").get<std::string>(), "response.incomplete");
    CHECK_EQ(events.back().at("response").at("status").get<std::string>(), "cancelled");
    CHECK(events.back().at("response").at("incomplete_details").is_null());
    CHECK_EQ(item(events.back().at("response"), 1).at("status").get<std::string>(), "incomplete");
}
