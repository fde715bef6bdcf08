#include "text_requests.h"

#include "chat_fixture.h"
#include "errors.h"
#include "tokenize.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

common_json ask(text_request kind, const std::string & body) {
    return common_json::parse(answer(*qwen3(), kind, body));
}

// The field that an error names; "-" when there is none.
std::string refused(text_request kind, const std::string & body) {
    try {
        answer(*qwen3(), kind, body);
    } catch (const error & reason) {
        CHECK(reason.kind == error_kind::invalid_request);
        return reason.param;
    }
    return "-";
}

llama_tokens ids(const common_json & body) {
    llama_tokens tokens;
    for (const auto & token : body.at("tokens")) {
        tokens.push_back(token.get<int>());
    }
    return tokens;
}

}  // namespace

TEST(tokens_of_a_text_and_back) {
    const std::string text = "What is 17 + 25?\nh\u00e9llo \U0001F917";
    const llama_tokens tokens =
        ids(ask(text_request::tokenize, R"({"content":"What is 17 + 25?\nh\u00e9llo \ud83e\udd17"})"));
    CHECK(tokens == tokenize(qwen3()->vocab(), text, false, true, ""));
    common_json body = {{"tokens", tokens}};
    CHECK_EQ(ask(text_request::detokenize, body.dump()).at("content").get<std::string>(), text);
    CHECK(ids(ask(text_request::tokenize, "{}")).empty());
    CHECK_EQ(ask(text_request::detokenize, "{}").at("content").get<std::string>(), "");
}

TEST(special_tokens_are_parsed_unless_told_otherwise) {
    CHECK_EQ(ids(ask(text_request::tokenize, R"({"content":"<|im_start|>"})")).size(), 1u);
    CHECK(ids(ask(text_request::tokenize, R"({"content":"<|im_start|>","parse_special":false})")).size() > 1);
}

TEST(text_and_ids_may_be_mixed) {
    const llama_tokens hello = tokenize(qwen3()->vocab(), "hello", false, true, "");
    llama_tokens expected = {5};
    expected.insert(expected.end(), hello.begin(), hello.end());
    expected.push_back(7);
    CHECK(ids(ask(text_request::tokenize, R"({"content":[5,"hello",7]})")) == expected);
}

TEST(pieces_are_text_or_bytes) {
    const auto body = ask(text_request::tokenize, R"({"content":"hello \u2603\ud83e\udd17","with_pieces":true})");
    std::string joined;
    bool bytes = false;
    for (const auto & token : body.at("tokens")) {
        CHECK(token.at("id").get<int>() >= 0);
        if (token.at("piece").is_string()) {
            joined += token.at("piece").get<std::string>();
            continue;
        }
        bytes = true;
        for (const auto & byte : token.at("piece")) {
            joined += static_cast<char>(byte.get<int>());
        }
    }
    CHECK(bytes);
    CHECK_EQ(joined, "hello \u2603\U0001F917");
}

TEST(a_template_is_applied_and_counted) {
    const std::string body =
        R"({"messages":[{"role":"user","content":"hi"}],"chat_template_kwargs":{"enable_thinking":false}})";
    const std::string prompt = ask(text_request::apply_template, body).at("prompt").get<std::string>();
    CHECK_EQ(prompt, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
    const auto counted = ask(text_request::count_tokens, body);
    CHECK_EQ(counted.at("input_tokens").get<size_t>(), tokenize(qwen3()->vocab(), prompt, true, true, "").size());
    CHECK_EQ(counted.at("object").get<std::string>(), "response.input_tokens");
}

TEST(text_errors_name_the_field) {
    CHECK_EQ(refused(text_request::tokenize, R"({"content":5})"), "content");
    CHECK_EQ(refused(text_request::tokenize, R"({"content":[-1]})"), "content");
    CHECK_EQ(refused(text_request::tokenize, R"({"content":[1000000000]})"), "content");
    CHECK_EQ(refused(text_request::tokenize, R"({"content":[1.5]})"), "content");
    CHECK_EQ(refused(text_request::tokenize, R"({"content":[["a"]]})"), "content");
    CHECK_EQ(refused(text_request::tokenize, R"({"content":"a","add_special":1})"), "add_special");
    CHECK_EQ(refused(text_request::tokenize, R"({"content":"a","with_pieces":"yes"})"), "with_pieces");
    CHECK_EQ(refused(text_request::detokenize, R"({"tokens":"a"})"), "tokens");
    CHECK_EQ(refused(text_request::detokenize, R"({"tokens":[-1]})"), "tokens");
    CHECK_EQ(refused(text_request::detokenize, R"({"tokens":[4294967296]})"), "tokens");
    CHECK_EQ(refused(text_request::apply_template, "{}"), "messages");
    CHECK_EQ(refused(text_request::tokenize, "[]"), "");
    CHECK_EQ(refused(text_request::tokenize, "{"), "");
}
