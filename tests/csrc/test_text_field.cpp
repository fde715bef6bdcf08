#include "text_field.h"

#include <algorithm>
#include <filesystem>

#include "chat_fixture.h"
#include "chat_parser.h"
#include "json_text.h"
#include "request.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

const std::vector<std::string> ends = {"</think>", "<tool>"};

std::vector<std::string> all_templates() {
    std::vector<std::string> names;
    for (const auto & entry : std::filesystem::directory_iterator(PYLLAMA_LLAMA_CPP_MODELS "/templates")) {
        if (entry.path().extension() == ".jinja") {
            names.push_back(entry.path().string());
        }
    }
    std::sort(names.begin(), names.end());
    return names;
}

// A request for a template, with or without a tool. Nothing when the template refuses it.
std::unique_ptr<common_chat_session> session_for(const common_chat_templates & templates, bool tools) {
    const std::string body = std::string(R"({"messages":[{"role":"user","content":"hi"}])") +
                             (tools ? R"(,"tools":[{"type":"function","function":{"name":"get_time","parameters":
                                 {"type":"object","properties":{"city":{"type":"string"}}}}}])"
                                    : "") +
                             "}";
    const auto request = parse_chat_request(*qwen3(), body);
    try {
        return std::make_unique<common_chat_session>(&templates, qwen3()->vocab(), request.inputs);
    } catch (const std::exception &) {
        return nullptr;
    }
}

// Words with what looks like tags, but is none.
std::string prose(random_source & random, int n_words) {
    static const char * const words[] = {
        " the",   " caf\xC3\xA9",      "\n", "\n\n",    " a < b", " </b>", " [x]", " {", " }", " get_time", " 1.5",
        " <thin", " \xF0\x9F\x98\x80", "|",  " `code`", "final"};
    std::string text = "So";
    for (int i = 0; i < n_words; ++i) {
        text += words[random.below(std::size(words))];
    }
    return text + " end";
}

// An answer as a model of this template might write it, also with the tags of others.
std::string answer_text(random_source & random, const common_chat_session & session) {
    const std::string & start = session.thinking_start_tag();
    const auto & tags = session.thinking_end_tags();
    std::string text;
    if (!tags.empty() && !random.one_in(4)) {
        const std::string & prefix = session.generation_prompt();
        const bool is_open = !start.empty() && prefix.rfind(start) != std::string::npos;
        text += (is_open ? "" : start) + "\n" + prose(random, 12) + "\n" +
                tags[random.below(static_cast<uint32_t>(tags.size()))];
    }
    text += "\n\n" + prose(random, 16);
    static const char * const tails[] = {
        "", "<tool_call>\n{\"name\": \"get_time\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>",
        "[TOOL_CALLS]get_time[ARGS]{\"city\": \"Rome\"}", "<|im_end|>", "\n```\nx\n```\n"};
    return text + tails[random.below(std::size(tails))];
}

// Either may withhold what could begin a delimiter, and sent text stays sent.
bool tells_the_same(const std::string & sent, const std::string & parsed) {
    constexpr size_t longest_delimiter = 64;
    const size_t n = std::min(sent.size(), parsed.size());
    return sent.compare(0, n, parsed, 0, n) == 0 && std::max(sent.size(), parsed.size()) - n < longest_delimiter;
}

// The length of the piece of about n bytes at `at`: pieces hold whole characters.
size_t piece_length(const std::string & text, size_t at, size_t n) {
    while (at + n < text.size() && (static_cast<unsigned char>(text[at + n]) & 0xC0) == 0x80) {
        ++n;
    }
    return std::min(n, text.size() - at);
}

struct comparison {
    size_t n_prefixes = 0;
    size_t n_feeds = 0;
    size_t n_parses = 0;
};

const chat_parser_clocks costs_nothing = {[] { return 0.0; }, [] { return 0.0; }};

// Feeds the text in random pieces, and compares with a parse of the whole text so far after each.
void compare(const common_chat_session & session, const std::string & text, random_source & random, comparison & done) {
    common_chat_parser_params params;
    params.format = session.format();
    params.parser = session.parser();
    common_chat_input input = common_chat_input_tokenize(qwen3()->vocab(), session.generation_prompt());
    chat_parser parser(session, qwen3()->vocab(), {}, costs_nothing);  // never waits
    std::string reasoning;
    std::string content;
    const size_t n_base = done.n_feeds;
    common_chat_msg message;
    bool is_text = true;
    for (size_t at = 0; at < text.size() && is_text;) {
        const size_t n = piece_length(text, at, 1 + random.below(6));
        auto batch = cut(text.substr(at, n), n);
        at += n;
        input.append(batch[0].text, batch[0].token);
        const chat_delta delta = parser.feed(batch);
        reasoning += delta.reasoning;
        content += delta.content;
        ++done.n_feeds;
        try {
            message = common_chat_parse(input, false, params);
            is_text = message.tool_calls.empty();
        } catch (const std::exception &) {
            is_text = false;  // what follows is the fallback's
        }
        if (is_text) {
            ++done.n_prefixes;
            CHECK(tells_the_same(reasoning, message.reasoning_content));
            CHECK(tells_the_same(content, message.content));
        }
    }
    if (is_text) {
        const chat_delta rest = parser.finish(true);
        CHECK_EQ(reasoning + rest.reasoning, message.reasoning_content);
        CHECK_EQ(content + rest.content, message.content);
    }
    done.n_parses += std::min(parser.n_parses(), done.n_feeds - n_base);
}

}  // namespace

TEST(a_field_goes_on_to_a_delimiter) {
    const auto check = [](const std::string & text, size_t end, bool closed) {
        const field_text found = read_field(text, 1, ends);
        CHECK_EQ(found.end, end);
        CHECK_EQ(found.closed, closed);
    };
    check("<abc", 4, false);            // what is before `begin` does not count
    check(" a < b </th b", 13, false);  // looks like one, and is none
    check(" abc</thi", 4, false);       // may become one
    check(" abc</think>def", 4, true);
    check(" a<tool></think>", 2, true);
    check(" caf\xC3", 4, false);  // a cut character
    check(" caf\xC3 and more", 4, true);
    check(" ", 1, false);
    CHECK_EQ(read_field(" anything </think>", 0, {}).end, 18u);
}

TEST(delimiters_are_those_of_the_parser) {
    const auto templates =
        common_chat_templates_init(nullptr, read_text(PYLLAMA_LLAMA_CPP_MODELS "/templates/Qwen-Qwen3-0.6B.jinja"));
    const auto plain = session_for(*templates, false);
    const auto reasoning = text_delimiters(plain->parser(), "reasoning");
    CHECK(reasoning && reasoning->size() == 1 && reasoning->front() == "</think>");
    const auto content = text_delimiters(plain->parser(), "content");
    CHECK(content && content->empty());
    CHECK(!text_delimiters(plain->parser(), "no-such-tag"));
    const auto with_tools = text_delimiters(session_for(*templates, true)->parser(), "content");
    CHECK(with_tools && with_tools->size() == 1 && with_tools->front().rfind("<tool_call>", 0) == 0);

    // A JSON answer is not text up to a delimiter.
    const auto request = parse_chat_request(
        *qwen3(), R"({"messages":[{"role":"user","content":"hi"}],"response_format":{"type":"json_object"}})");
    CHECK(!text_delimiters(common_chat_session(templates.get(), qwen3()->vocab(), request.inputs).parser(), "content"));
}

TEST(following_a_field_tells_the_same_as_parsing_for_every_template) {
    random_source random(11);
    size_t n_sessions = 0;
    comparison all;
    for (const std::string & path : all_templates()) {
        const auto templates = common_chat_templates_init(nullptr, read_text(path));
        for (const bool tools : {false, true}) {
            const auto session = session_for(*templates, tools);
            if (!session) {
                continue;
            }
            ++n_sessions;
            for (int round = 0; round < 6; ++round) {
                compare(*session, answer_text(random, *session), random, all);
            }
        }
    }
    CHECK(n_sessions > 80);
    CHECK(all.n_prefixes > 10000);
    CHECK(all.n_parses < all.n_feeds / 2);
}

TEST(a_json_string_goes_on_to_its_quote) {
    const auto check = [](const std::string & text, size_t end, bool closed) {
        const field_text found = read_json_string(text, 1);
        CHECK_EQ(found.end, end);
        CHECK_EQ(found.closed, closed);
    };
    check("\"abc", 4, false);
    check(" abc\"def", 4, true);
    check(" a\\\"b\\\\\"", 7, true);
    check(" a\\", 2, false);  // an escape sequence that is to come
    check(" a\\u00", 2, false);
    check(" a\\u00e9\\n", 10, false);
    check(" a\\x", 2, true);  // none: the parser's business
    check(" a\\u0x", 2, true);
    check(" caf\xC3", 4, false);
    check(" caf\xC3 and more", 4, true);
    json_string_tracker tracker;
    const auto inside = [&](const char * more) {
        tracker.read(more);
        return tracker.in_string();
    };
    CHECK(!inside("{"));
    CHECK(inside("\"a"));
    CHECK(!inside("\\"));
    CHECK(inside("\""));
    CHECK(!inside("\\u00"));
    CHECK(!inside("2"));
    CHECK(inside("2u"));
    CHECK(!inside("\": [\"b\\\\\", 1], "));
    CHECK(inside("\"c"));
}

// The assistant's message with this call as the template writes it; empty when it cannot.
std::string call_text(const common_chat_templates & templates, const std::string & arguments) {
    const auto render = [&](bool answered) {
        common_json body =
            common_json::parse(R"({"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function",
            "function":{"name":"get_time","parameters":{"type":"object","properties":{"city":{"type":"string"},
            "list":{"type":"array"}}}}}]})");
        if (answered) {
            body["messages"].push_back(
                common_json::parse(R"({"role":"assistant","content":"","tool_calls":[{"id":"c12345678",
                "type":"function","function":{"name":"get_time","arguments":)" +
                                   json_quoted(arguments) + "}}]}"));
            body["messages"].push_back(
                common_json::parse(R"({"role":"tool","tool_call_id":"c12345678","content":"@@"})"));
        }
        const auto request = parse_chat_request(*qwen3(), body.dump());
        return common_chat_session(&templates, qwen3()->vocab(), request.inputs).prompt();
    };
    try {
        const std::string asked = render(false);
        const std::string told = render(true);
        const size_t at = static_cast<size_t>(
            std::mismatch(asked.begin(), asked.end(), told.begin(), told.end()).first - asked.begin());
        const size_t name = told.find("get_time", at);
        const size_t end = told.find("@@", at);
        if (name == std::string::npos || end == std::string::npos || name > end) {
            return {};
        }
        return told.substr(at, end - at);
    } catch (const std::exception &) {
        return {};
    }
}

TEST(following_a_call_s_arguments_tells_the_same_as_parsing_for_every_template) {
    static const char * const parts[] = {" so", "\\n", "\\\"",    "caf\xC3\xA9", "\\\\", "</tool_call>",
                                         "{",   "}]",  "\\u00e9", "[1, 2",       ": ",   " ",
                                         ",",   "'",   "<",       "\\/"};
    random_source random(17);
    size_t n_followed = 0;
    size_t n_tagged = 0;
    size_t n_compared = 0;
    for (const std::string & path : all_templates()) {
        const auto templates = common_chat_templates_init(nullptr, read_text(path));
        const auto session = session_for(*templates, true);
        if (!session) {
            continue;
        }
        const bool tagged = text_delimiters(session->parser(), "tool-arg-string-value").has_value();
        if (!tagged && !has_json_arguments(session->parser())) {
            continue;
        }
        bool follows = false;
        for (int round = 0; round < 4; ++round) {
            std::string value;
            for (int i = 0; i < 30; ++i) {
                value += parts[random.below(std::size(parts))];
            }
            std::string arguments = "{\"city\": \"" + value + "\"";
            if (!tagged) {  // of tags the parser takes those that the tool names
                arguments += ", \"list\": [\"" + value + "\", 1.5, \"x\"]";
            }
            arguments += "}";
            const std::string text = call_text(*templates, arguments);
            common_chat_parser_params params;
            params.format = session->format();
            params.parser = session->parser();
            common_chat_input input = common_chat_input_tokenize(qwen3()->vocab(), session->generation_prompt());
            chat_parser parser(*session, qwen3()->vocab(), {}, costs_nothing);
            std::string sent;
            size_t n_feeds = 0;
            for (size_t at = 0; at < text.size();) {
                const size_t n = piece_length(text, at, 1 + random.below(6));
                auto batch = cut(text.substr(at, n), n);
                at += n;
                input.append(batch[0].text, batch[0].token);
                ++n_feeds;
                for (const auto & call : parser.feed(batch).tool_calls) {
                    sent += call.index == 0 ? call.arguments : "";
                }
                common_chat_msg message;
                try {
                    message = common_chat_parse(input, false, params);
                } catch (const std::exception &) {
                    break;  // behind the call
                }
                if (!message.tool_calls.empty()) {
                    ++n_compared;
                    CHECK(tells_the_same(sent, message.tool_calls[0].arguments));
                }
            }
            follows = follows || (sent.size() > arguments.size() / 2 && parser.n_parses() < n_feeds * 3 / 4);
        }
        (tagged ? n_tagged : n_followed) += follows ? 1 : 0;
    }
    CHECK(n_followed >= 10);
    CHECK(n_tagged >= 10);
    CHECK(n_compared > 2000);
}

TEST(the_end_of_a_text_is_a_value_between_tags) {
    CHECK(ends_with_value("<p>a \"b\"\n c", R"(a \"b\"\n c)"));
    CHECK(!ends_with_value("<p>[\"abc", "abc"));  // in JSON
    CHECK(!ends_with_value("<p>{'abc", "abc"));   // in what becomes JSON
    CHECK(!ends_with_value("<p>abc", "ab"));
    CHECK(!ends_with_value("<p>\n", "\\n"));
    CHECK(!ends_with_value("abc", "abc"));
    CHECK(!ends_with_value("<p>ab", "a\\"));
}

// Feeds `head`, many words and `tail`, and gives the arguments sent.
std::string sent_arguments(const char * name, const std::string & head, const std::string & word,
                           const std::string & tail) {
    const auto templates = common_chat_templates_init(
        nullptr, read_text(std::string(PYLLAMA_LLAMA_CPP_MODELS "/templates/") + name + ".jinja"));
    const auto session = session_for(*templates, true);
    chat_parser parser(*session, qwen3()->vocab(), {}, costs_nothing);
    std::string text = head;
    for (int i = 0; i < 2000; ++i) {
        text += word;
    }
    std::string sent;
    for (auto & value : cut(text + tail, 5)) {
        std::vector<piece> batch;
        batch.push_back(std::move(value));
        for (const auto & call : parser.feed(batch).tool_calls) {
            sent += call.arguments;
        }
    }
    for (const auto & call : parser.finish(true).tool_calls) {
        sent += call.arguments;
    }
    CHECK(parser.n_parses() < 60);
    return sent;
}

TEST(the_number_of_parses_does_not_grow_with_a_call_s_strings) {
    std::string value;
    for (int i = 0; i < 2000; ++i) {
        value += R"( word \"quoted\"\n)";
    }
    CHECK_EQ(sent_arguments("Qwen-Qwen3-0.6B", R"(<tool_call>
{"name": "get_time", "arguments": {"city": ")",
                            R"( word \"quoted\"\n)", "\"}}\n</tool_call>"),
             R"({"city": ")" + value + "\"}");
    const std::string tagged = sent_arguments("Qwen3-Coder", "<tool_call>\n<function=get_time>\n<parameter=city>\nSo",
                                              " word \"quoted\"\n", "end\n</parameter>\n</function>\n</tool_call>");
    CHECK_EQ(common_json::parse(tagged).at("city").get<std::string>(),
             "So" + common_json::parse("\"" + value + "\"").get<std::string>() + "end");
}

TEST(the_number_of_parses_does_not_grow_with_the_text) {
    const auto templates =
        common_chat_templates_init(nullptr, read_text(PYLLAMA_LLAMA_CPP_MODELS "/templates/Qwen-Qwen3-0.6B.jinja"));
    for (const bool tools : {false, true}) {
        const auto session = session_for(*templates, tools);
        random_source random(5);
        comparison done;
        compare(*session, "<think>\n" + prose(random, 300) + "\n</think>\n\n" + prose(random, 300), random, done);
        CHECK(done.n_feeds > 300);
        CHECK(done.n_parses < 20);
    }
}
