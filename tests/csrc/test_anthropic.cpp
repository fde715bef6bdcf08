#include "dialect_fixture.h"

#include "request_anthropic.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

const std::string hello = R"("messages":[{"role":"user","content":"hi"}])";
const std::string tool = R"("tools":[{"name":"f","description":"d","input_schema":{"type":"object",
    "properties":{"a":{"type":"string"}}}}])";
const std::string call_text =
    "<think>\nhm\n</think>\n\nWell\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"b\"}}\n</tool_call>";

std::string asked(const std::string & members) {
    return "{" + hello + (members.empty() ? "" : ",") + members + "}";
}

chat_request parsed(const std::string & body) {
    return parse_anthropic_request(*qwen3(), body);
}

std::string refused_with(const std::string & members) {
    return refused("{" + members + "}", dialect::anthropic);
}

std::vector<common_json> stream(const std::string & members, const std::string & text,
                                const generation_result & result = ended()) {
    return events_of(
        answer(asked(members + (members.empty() ? "" : ",") + R"("stream":true)"), dialect::anthropic, text, result));
}

common_json body(const std::string & members, const std::string & text, const generation_result & result = ended()) {
    const auto sink = answer(asked(members), dialect::anthropic, text, result);
    CHECK_EQ(sink.frames.size(), 1u);
    return common_json::parse(sink.frames.front());
}

std::string stop_reason(const std::string & stop_string, const std::string & members = "") {
    generation_result result = ended();
    result.stop_string = stop_string;
    return body(members, "<think>\nhm\n</think>\n\nx", result).at("stop_reason").get<std::string>();
}

}  // namespace

TEST(the_same_conversation_gives_the_same_prompt_as_a_chat) {
    const std::string anthropic =
        R"({"system":[{"type":"text","text":"Be "},{"type":"text","text":"kind."}],"messages":[
        {"role":"user","content":"go"},
        {"role":"assistant","content":[{"type":"thinking","thinking":"I look.","signature":""},
            {"type":"text","text":"Looking"},{"type":"tool_use","id":"1","name":"f","input":{"a":"b"}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":[{"type":"text","text":"x"},
            {"type":"text","text":"y"}]},{"type":"text","text":"and?"}]}]})";
    const std::string chat = R"({"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"go"},
        {"role":"assistant","reasoning_content":"I look.","content":"Looking",
            "tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\":\"b\"}"}}]},
        {"role":"tool","tool_call_id":"1","content":"xy"},{"role":"user","content":"and?"}]})";
    CHECK_EQ(prompt_of(anthropic, dialect::anthropic), prompt_of(chat, dialect::openai));
}

TEST(text_and_results_keep_their_order) {
    const auto r = parsed(R"({"messages":[{"role":"user","content":[{"type":"text","text":"a"},
        {"type":"tool_result","tool_use_id":"1","is_error":true,"content":"b"},{"type":"text","text":"c"}]}]})");
    std::string roles;
    for (const auto & message : r.inputs.messages) {
        roles += message.role + " ";
    }
    CHECK_EQ(roles, "user tool user ");
    CHECK_EQ(r.inputs.messages[1].content, "b");
    CHECK_EQ(r.inputs.messages[1].tool_call_id, "1");
}

TEST(a_conversation_may_be_empty) {
    CHECK(parsed(R"({"messages":[]})").inputs.messages.empty());
    CHECK_EQ(refused_with(R"("messages":[],"continue_final_message":true)"), "continue_final_message");
}

TEST(limits_and_budgets) {
    CHECK_EQ(parsed(asked("")).n_predict, 4096);
    CHECK_EQ(parsed(asked(R"("max_tokens":7)")).n_predict, 7);
    CHECK_EQ(parsed(asked(R"("thinking":{"type":"enabled","budget_tokens":0})")).reasoning.budget, 0);
    CHECK_EQ(parsed(asked(R"("thinking":{"type":"enabled","budget_tokens":1024})")).reasoning.budget, 1024);
    CHECK(parsed(asked(R"("thinking":{"type":"adaptive"})")).inputs.enable_thinking);
    CHECK(!parsed(asked(R"("thinking":{"type":"disabled"})")).inputs.enable_thinking);
    const auto r = parsed(asked(R"("stop_sequences":["x","y"],"top_k":3,"seed":5,"reasoning_control":true,
        "output_config":{"effort":"low"})"));
    CHECK(r.stop == std::vector<std::string>({"x", "y"}));
    CHECK_EQ(r.sampling.top_k, 3);
    CHECK_EQ(r.sampling.seed, 5u);
    CHECK(r.sampling.reasoning_control);
    CHECK_EQ(r.inputs.chat_template_kwargs.at("reasoning_effort"), "\"low\"");
}

TEST(tools_and_their_choice) {
    const auto r = parsed(asked(tool));
    CHECK_EQ(r.inputs.tools.at(0).name, "f");
    CHECK(r.inputs.tools[0].parameters.find("properties") != std::string::npos);
    const auto choice = [](const std::string & how) {
        return parsed(asked(tool + R"(,"tool_choice":{"type":")" + how)).inputs;
    };
    CHECK(choice("any\"}").tool_choice == COMMON_CHAT_TOOL_CHOICE_REQUIRED);
    CHECK(choice("tool\",\"name\":\"f\"}").tool_choice == COMMON_CHAT_TOOL_CHOICE_REQUIRED);
    CHECK(choice("none\"}").tool_choice == COMMON_CHAT_TOOL_CHOICE_NONE);
    CHECK(!choice(R"(auto","disable_parallel_tool_use":true})").parallel_tool_calls);
    // Those that the API runs by itself have no schema here.
    CHECK(parsed(asked(R"("tools":[{"type":"web_search_20250305","name":"web_search"}])")).inputs.tools.empty());
}

TEST(a_schema_is_an_output_format) {
    const std::string format = R"("output_config":{"format":{"type":"json_schema","schema":)";
    CHECK(!parsed(asked(format + R"({"type":"object"}}})")).inputs.json_schema.empty());
    CHECK_EQ(refused("{" + hello + "," + format + R"({"type":"nothing"}}}})", dialect::anthropic),
             "output_config.format.schema");
}

TEST(the_checksum_of_a_billing_header_is_settled) {
    const auto with = [](const std::string & text) {
        return parsed("{" + hello + R"(,"system":")" + text + "\"}").inputs.messages.at(0).content;
    };
    CHECK_EQ(with("x-anthropic-billing-header: a=2; cch=12345;You"),
             with("x-anthropic-billing-header: a=2; cch=abcde;You"));
    CHECK_EQ(with("cch=12345;"), "cch=12345;");
    for (const char * cut : {"x-anthropic-billing-header:", "x-anthropic-billing-header: cch=",
                             "x-anthropic-billing-header: cch=1234", "x-anthropic-billing-header: cch=12345"}) {
        CHECK_EQ(with(cut), cut);
    }
}

TEST(errors_name_the_field) {
    CHECK_EQ(refused_with(""), "messages");
    CHECK_EQ(refused_with(R"("messages":{})"), "messages");
    CHECK_EQ(refused_with(R"("messages":[{"role":"tool","content":"x"}])"), "messages[0].role");
    CHECK_EQ(refused_with(R"("messages":[{"role":"user"}])"), "messages[0].content");
    CHECK_EQ(refused_with(R"("messages":[{"role":"user","content":5}])"), "messages[0].content");
    const auto block = [](const std::string & role, const std::string & json) {
        return refused_with(R"("messages":[{"role":")" + role + R"(","content":[)" + json + "]}]");
    };
    const std::string at = "messages[0].content[0]";
    CHECK_EQ(block("user", "5"), at);
    CHECK_EQ(block("user", "{}"), at + ".type");
    CHECK_EQ(block("user", R"({"type":"document"})"), at + ".type");
    CHECK_EQ(block("user", R"({"type":"tool_use"})"), at + ".type");
    CHECK_EQ(block("user", R"({"type":"text"})"), at + ".text");
    CHECK_EQ(block("user", R"({"type":"tool_result"})"), at + ".tool_use_id");
    CHECK_EQ(block("user", R"({"type":"tool_result","tool_use_id":"1","content":5})"), at + ".content");
    CHECK_EQ(block("user", R"({"type":"tool_result","tool_use_id":"1","content":[{"type":"x"}]})"),
             at + ".content[0].type");
    CHECK_EQ(block("user", R"({"type":"tool_result","tool_use_id":"1","is_error":1})"), at + ".is_error");
    CHECK_EQ(block("assistant", R"({"type":"tool_use","id":"1","name":"f","input":"x"})"), at + ".input");
    CHECK_EQ(block("assistant", R"({"type":"tool_result"})"), at + ".type");
    CHECK_EQ(refused_with(hello + R"(,"system":5)"), "system");
    CHECK_EQ(refused_with(hello + R"(,"system":[{"type":"x"}])"), "system[0].type");
    CHECK_EQ(refused_with(hello + R"(,"stop_sequences":"x")"), "stop_sequences");
    CHECK_EQ(refused_with(hello + R"(,"stop_sequences":[1])"), "stop_sequences[0]");
    CHECK_EQ(refused_with(hello + R"(,"thinking":true)"), "thinking");
    CHECK_EQ(refused_with(hello + R"(,"thinking":{"type":"enabled","budget_tokens":-2})"), "thinking.budget_tokens");
    CHECK_EQ(refused_with(hello + R"(,"tools":[{"input_schema":{}}])"), "tools[0].name");
    CHECK_EQ(refused_with(hello + R"(,"tools":[{"name":"f","input_schema":5}])"), "tools[0].input_schema");
    CHECK_EQ(refused_with(hello + R"(,"tools":[{"name":"f","input_schema":{"type":"nothing"}}])"),
             "tools[0].input_schema");
    CHECK_EQ(refused_with(hello + R"(,"tool_choice":{"type":"any"})"), "tool_choice");
    CHECK_EQ(refused_with(hello + "," + tool + R"(,"tool_choice":{"type":"tool","name":"g"})"), "tool_choice");
    CHECK_EQ(refused_with(hello + R"(,"tool_choice":{"type":"some"})"), "tool_choice.type");
    CHECK_EQ(refused_with(hello + R"(,"n":2)"), "n");
    CHECK_EQ(refused_with(hello + R"(,"max_tokens":"x")"), "max_tokens");
    CHECK_EQ(refused_with(hello + R"(,"output_config":{"format":{"type":"x"}})"), "output_config.format.type");
    CHECK_EQ(refused_with(R"("messages":[{"role":"assistant","content":"a"},{"role":"assistant","content":"b"}])"),
             "messages[1]");
}

TEST(an_image_is_refused_as_llama_server_does) {
    const std::string image = R"({"type":"image","source":{"type":"url","url":"x"}})";
    for (const std::string & block : {image, R"({"type":"tool_result","tool_use_id":"1","content":[)" + image + "]}"}) {
        const std::string with = R"({"messages":[{"role":"user","content":[)" + block + "]}]}";
        CHECK_EQ(refused(with, dialect::anthropic, error_kind::unsupported), "");
    }
}

TEST(a_stream_has_blocks_that_open_grow_and_close) {
    const auto events = stream(tool, call_text);
    CHECK_EQ(shape_of(events),
             "message_start "
             "content_block_start content_block_delta content_block_stop "
             "content_block_start content_block_delta content_block_stop "
             "content_block_start content_block_delta content_block_stop "
             "message_delta message_stop");
    std::string texts[3];
    int n_open = 0;
    int last = -1;
    for (const auto & event : events) {
        const auto type = event.at("type").get<std::string>();
        if (type == "content_block_start") {
            CHECK_EQ(++n_open, 1);
            CHECK_EQ(event.at("index").get<int>(), ++last);
        } else if (type == "content_block_stop") {
            CHECK_EQ(--n_open, 0);
            CHECK_EQ(event.at("index").get<int>(), last);
        } else if (type == "content_block_delta") {
            CHECK_EQ(n_open, 1);
            CHECK_EQ(event.at("index").get<int>(), last);
            for (const char * member : {"thinking", "text", "partial_json"}) {
                if (event.at("delta").contains(member)) {
                    texts[last] += event.at("delta").at(member).get<std::string>();
                }
            }
        }
    }
    CHECK_EQ(texts[0], "hm\n");
    CHECK_EQ(texts[1], "Well\n");
    CHECK_EQ(common_json::parse(texts[2]).at("a").get<std::string>(), "b");
    const auto & usage = events.front().at("message").at("usage");
    CHECK_EQ(usage.at("input_tokens").get<int>(), 6);
    CHECK_EQ(usage.at("cache_read_input_tokens").get<int>(), 4);
    const auto & end = events[events.size() - 2];
    CHECK_EQ(end.at("delta").at("stop_reason").get<std::string>(), "tool_use");
    CHECK_EQ(end.at("usage").at("output_tokens").get<int>(), 5);
}

TEST(a_thinking_block_ends_with_its_signature) {
    const auto events = stream("", "<think>\nhm\n</think>\n\nx");
    const auto stop = std::find_if(events.begin(), events.end(), [](const common_json & event) {
        return event.at("type").get<std::string>() == "content_block_stop";
    });
    CHECK_EQ((stop - 1)->at("delta").dump(), R"({"type":"signature_delta","signature":""})");
}

TEST(a_body_has_what_the_stream_has) {
    const auto message = body(tool, call_text);
    CHECK_EQ(message.at("type").get<std::string>(), "message");
    CHECK_EQ(message.at("id").get<std::string>().substr(0, 4), "msg_");
    CHECK_EQ(message.at("stop_reason").get<std::string>(), "tool_use");
    CHECK(message.at("stop_sequence").is_null());
    const auto & content = message.at("content");
    CHECK_EQ(content.size(), 3u);
    CHECK_EQ(content.at(size_t{0}).at("thinking").get<std::string>(), "hm\n");
    CHECK_EQ(content.at(size_t{1}).at("text").get<std::string>(), "Well\n");
    CHECK_EQ(content.at(size_t{2}).at("input").at("a").get<std::string>(), "b");
    CHECK_EQ(content.at(size_t{2}).at("name").get<std::string>(), "f");
}

TEST(a_cut_call_has_an_empty_input) {
    const auto message = body(tool, call_text.substr(0, call_text.size() - 18), ended(finish_reason::length));
    const auto & content = message.at("content");
    CHECK_EQ(content.at(content.size() - 1).at("type").get<std::string>(), "tool_use");
    CHECK_EQ(content.at(content.size() - 1).at("input").dump(), "{}");
    CHECK_EQ(message.at("stop_reason").get<std::string>(), "max_tokens");
}

TEST(only_the_clients_stop_strings_are_told) {
    CHECK_EQ(stop_reason("x", R"("stop_sequences":["x"])"), "stop_sequence");
    CHECK_EQ(stop_reason("x"), "end_turn");
    CHECK_EQ(stop_reason(""), "end_turn");
}

TEST(an_error_is_an_event_with_its_name) {
    auto prepared = prepare(asked(R"("stream":true)"), dialect::anthropic);
    collected_frames sink;
    prepared.writer->start(sink);
    prepared.writer->progress(started(), sink);
    prepared.writer->fail(error(error_kind::engine, "broken"), sink);
    const auto events = events_of(sink);
    CHECK_EQ(types_of(events), "message_start error");
    CHECK_EQ(events[1].at("error").at("message").get<std::string>(), "broken");
}

TEST(a_message_starts_even_without_progress) {
    auto prepared = prepare(asked(R"("stream":true)"), dialect::anthropic);
    collected_frames sink;
    prepared.writer->start(sink);
    prepared.writer->finish(ended(), sink);
    prepared.writer->end(sink);
    CHECK_EQ(types_of(events_of(sink)), "message_start message_delta message_stop");
}
