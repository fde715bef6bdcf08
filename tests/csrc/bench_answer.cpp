// What the render path's parser costs along an answer of 30,000 tokens, one every 10 ms: microseconds a token for each
// eighth of it, and the longest that a token waited for its delta. Not a test.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "chat_fixture.h"
#include "chat_parser.h"
#include "request.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

constexpr size_t n_tokens = 30'000;
constexpr size_t n_parts = 8;
constexpr double step_ms = 10;

struct answer_shape {
    const char * name;
    bool tools;
    std::string head;
    std::string word;
    std::string tail;
    size_t n_reasoning;  // words of the reasoning, before the head
    const char * chat_template = "Qwen-Qwen3-0.6B";
};

void measure(const answer_shape & shape) {
    const std::string body = std::string(R"({"messages":[{"role":"user","content":"hi"}])") +
                             (shape.tools ? R"(,"tools":[{"type":"function","function":{"name":"write","parameters":
                                 {"type":"object","properties":{"text":{"type":"string"}}}}}])"
                                          : "") +
                             "}";
    const auto source = load_with_template(shape.chat_template);
    const auto request = parse_chat_request(*source, body);
    const common_chat_session session(source->templates(), source->vocab(), request.inputs);
    double idle_ms = 0;
    chat_parser parser(session, source->vocab(), {}, {[&] { return chat_parser::steady_ms() + idle_ms; }, {}});

    std::vector<std::string> texts;
    if (shape.n_reasoning > 0) {
        texts.emplace_back("<think>");
        texts.insert(texts.end(), shape.n_reasoning, " thought");
        texts.emplace_back("</think>");
    }
    texts.push_back(shape.head);
    while (texts.size() + 1 < n_tokens) {
        texts.push_back(texts.size() % 20 == 0 ? "\\n" : shape.word);
    }
    texts.push_back(shape.tail);

    std::vector<double> costs(n_parts);
    std::vector<double> waits(n_parts);
    size_t n_bytes = 0;
    double waiting_since = -1;
    for (size_t i = 0; i < texts.size(); ++i) {
        idle_ms += step_ms;
        std::vector<piece> batch(1);
        batch[0].token = 1;
        batch[0].text = texts[i];
        const double begun = chat_parser::steady_ms();
        waiting_since = waiting_since < 0 ? begun + idle_ms : waiting_since;
        const chat_delta delta = parser.feed(batch);
        const double ended = chat_parser::steady_ms();
        const size_t part = i * n_parts / texts.size();
        costs[part] += ended - begun;
        if (!delta.empty()) {
            waits[part] = std::max(waits[part], ended + idle_ms - waiting_since);
            waiting_since = -1;
        }
        n_bytes += texts[i].size();
    }
    const double begun = chat_parser::steady_ms();
    parser.finish(true);
    std::printf("%-22s %6zu bytes, %zu parses, the end %.1f ms\n", shape.name, n_bytes, parser.n_parses(),
                chat_parser::steady_ms() - begun);
    for (size_t part = 0; part < n_parts; ++part) {
        std::printf("  %zu/8  %7.1f us a token  waits at most %6.1f ms\n", part + 1,
                    costs[part] * 1000 * n_parts / n_tokens, waits[part]);
    }
}

}  // namespace

TEST(costs) {
    measure({"content", false, "So", " word", " end", 0});
    measure({"content, with tools", true, "So", " word", " end", 0});
    measure({"reasoning and content", true, "So", " word", " end", n_tokens / 2});
    measure({"a tool call", true, "<tool_call>\n{\"name\": \"write\", \"arguments\": {\"text\": \"", " word",
             "\"}}\n</tool_call>", 0});
    measure({"a tool call in tags", true, "<tool_call>\n<function=write>\n<parameter=text>\nSo", " word",
             "\n</parameter>\n</function>\n</tool_call>", 0, "Qwen3-Coder"});
}
