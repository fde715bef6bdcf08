#include "chat_parser.h"

#include "chat_fixture.h"
#include "request.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

const std::string tools = R"(,"tools":[{"type":"function","function":{"name":"get_time","parameters":{"type":"object",
    "properties":{"city":{"type":"string"}}}}}])";

common_chat_session session_for(const model & model, const std::string & more,
                                const std::string & messages = R"([{"role":"user","content":"hi"}])") {
    const auto request = parse_chat_request(model, "{\"messages\":" + messages + more + "}");
    return {model.templates(), model.vocab(), request.inputs};
}

const chat_parser_clocks costs_nothing = {[] { return 0.0; }, [] { return 0.0; }};

struct answer {
    std::string reasoning;
    std::string content;
    std::vector<tool_call_delta> calls;
    void add(const chat_delta & delta) {
        reasoning += delta.reasoning;
        content += delta.content;
        for (const auto & call : delta.tool_calls) {
            CHECK(call.index <= calls.size());
            if (call.index == calls.size()) {
                CHECK(!call.id.empty() && !call.name.empty());
                calls.push_back(call);
            } else {
                CHECK(call.id.empty() && call.name.empty());
                calls[call.index].arguments += call.arguments;
            }
        }
    }
};

answer run(const common_chat_session & session, const model & model, const std::string & text, size_t length,
           bool complete = true, chat_parser_options options = {}) {
    chat_parser parser(session, model.vocab(), options);
    answer result;
    for (auto & value : cut(text, length)) {
        std::vector<piece> batch;
        batch.push_back(std::move(value));
        result.add(parser.feed(batch));
    }
    result.add(parser.finish(complete));
    return result;
}

}  // namespace

TEST(reasoning_and_content_are_told_apart_at_any_cut) {
    const auto session = session_for(*qwen3(), "");
    const std::string text = "<think>\nLet me see: 1 < 2.\n</think>\n\nIt is **2**, caf\xC3\xA9.";
    for (size_t length = 1; length <= text.size(); ++length) {
        const answer result = run(session, *qwen3(), text, length);
        CHECK_EQ(result.reasoning, "Let me see: 1 < 2.\n");
        CHECK_EQ(result.content, "It is **2**, caf\xC3\xA9.");
    }
}

TEST(tool_calls_stream_with_one_stable_id) {
    const auto session = session_for(*qwen3(), tools);
    const std::string text =
        "<think>\nx\n</think>\n\n<tool_call>\n{\"name\": \"get_time\", \"arguments\": {\"city\": "
        "\"Rome\"}}\n</tool_call>";
    for (const size_t length : {size_t{1}, size_t{3}, size_t{7}, size_t{20}, text.size()}) {
        const answer result = run(session, *qwen3(), text, length);
        CHECK_EQ(result.calls.size(), 1u);
        CHECK_EQ(result.calls[0].name, "get_time");
        CHECK_EQ(common_json::parse(result.calls[0].arguments).at("city").get<std::string>(), "Rome");
        CHECK_EQ(result.content, "");
        CHECK_EQ(result.reasoning, "x\n");
    }
}

TEST(streaming_tells_the_same_as_one_parse_for_many_templates) {
    static const char * const names[] = {
        "Qwen-Qwen3-0.6B", "Qwen-QwQ-32B", "Qwen-Qwen2.5-7B-Instruct", "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
        "GLM-4.6",         "Qwen3-Coder"};
    static const char * const texts[] = {"plain words, [brackets] and {braces}\n\nsecond",
                                         "<think>\nthought\n</think>\n\nanswer", "thought</think>answer"};
    random_source random(3);
    for (const char * name : names) {
        const auto loaded = load_with_template(name);
        for (const std::string & more : {std::string(), tools}) {
            const auto session = session_for(*loaded, more);
            for (const std::string text : texts) {
                const answer whole = run(session, *loaded, text, text.size());
                const answer streamed = run(session, *loaded, text, 1 + random.below(5));
                CHECK_EQ(streamed.reasoning, whole.reasoning);
                CHECK_EQ(streamed.content, whole.content);
            }
        }
    }
}

TEST(text_that_does_not_match_becomes_content) {
    const auto session = session_for(*qwen3(), tools);
    const std::string bad = "<think>\nx\n</think>\n\n<tool_call>\nnot json at all\n</tool_call> and more";
    const answer result = run(session, *qwen3(), bad, 4);
    CHECK_EQ(result.reasoning, "x\n");
    CHECK(result.content.find("not json at all") != std::string::npos);
    CHECK(result.content.find("and more") != std::string::npos);
}

TEST(endless_brackets_cannot_exhaust_the_stack) {
    const auto session = session_for(*qwen3(), tools);
    std::string text = "<tool_call>\n{\"name\": \"get_time\", \"arguments\": ";
    text.append(200000, '[');
    const answer result = run(session, *qwen3(), text, 50000, false);
    CHECK(result.calls.size() <= 1);
}

TEST(strings_between_brackets_hide_no_nesting) {
    const auto session = session_for(*qwen3(), tools);
    std::string text = "<tool_call>\n{\"name\": \"get_time\", \"arguments\": {\"city\": ";
    for (int i = 0; i < 20000; ++i) {
        text += "[\"a\",";
    }
    chat_parser parser(session, qwen3()->vocab(), {}, costs_nothing);
    answer result;
    for (auto & value : cut(text, 52)) {  // cuts inside of strings
        std::vector<piece> batch;
        batch.push_back(std::move(value));
        result.add(parser.feed(batch));
    }
    result.add(parser.finish(false));
    CHECK(result.calls.size() <= 1);
    CHECK(result.content.size() > text.size() / 2);  // what nests too deep is told as text
}

TEST(brackets_of_prose_are_no_nesting) {
    const auto session = session_for(*qwen3(), tools);
    std::string thought;
    for (int i = 0; i < 2000; ++i) {
        thought += " [0, 1)";
    }
    chat_parser parser(session, qwen3()->vocab(), {}, costs_nothing);
    answer result;
    for (auto & value : cut("<think>\nIn" + thought + "\n</think>\n\nYes.", 5)) {
        std::vector<piece> batch;
        batch.push_back(std::move(value));
        result.add(parser.feed(batch));
    }
    result.add(parser.finish(true));
    CHECK_EQ(result.reasoning, "In" + thought + "\n");
    CHECK_EQ(result.content, "Yes.");
}

TEST(a_continued_message_is_not_repeated_unless_asked) {
    const std::string messages = R"([{"role":"user","content":"hi"},{"role":"assistant","content":"Once upon"}])";
    const auto session = session_for(*qwen3(), R"(,"continue_final_message":true)", messages);
    CHECK_EQ(run(session, *qwen3(), " a time", 2).content, " a time");
    chat_parser_options echo;
    echo.echo = true;
    CHECK_EQ(run(session, *qwen3(), " a time", 2, true, echo).content, "Once upon a time");
}

TEST(parsing_waits_for_its_share_of_the_time) {
    const auto session = session_for(*qwen3(), "");
    double now = 0;
    double spent = 0;
    double step = 10;  // what parsing costs
    chat_parser parser(session, qwen3()->vocab(), {}, {[&] { return now; }, [&] { return spent += step; }});
    const auto feed = [&](const char * text) { return parser.feed(cut(text, 100)); };
    CHECK_EQ(feed("<think>\none ").reasoning, "one ");  // nothing parsed yet: at once
    step = 0;
    CHECK(feed("two ").empty());  // 10 ms at 2 %: not for 500 ms
    CHECK_EQ(parser.flush_due_ms(), 500.0);
    now += 500;
    CHECK_EQ(parser.flush_due_ms(), 0.0);
    CHECK(parser.flush().reasoning.find("two") != std::string::npos);
    CHECK_EQ(parser.flush_due_ms(), -1.0);
}
