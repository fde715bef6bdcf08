#include "json_text.h"

#include "check.h"
#include "json.h"
#include "sse.h"

using namespace pyllama;

TEST(escaping_reads_back_as_the_same_text) {
    std::string text;
    for (int c = 0; c < 128; ++c) {
        text += static_cast<char>(c);
    }
    text += "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80";
    CHECK_EQ(common_json::parse(json_quoted(text)).get<std::string>(), text);
}

TEST(malformed_utf8_becomes_replacement_characters) {
    CHECK_EQ(json_quoted("a\xFF"
                         "b"),
             "\"a\xEF\xBF\xBD"
             "b\"");
    CHECK_EQ(json_quoted("\xE2\x82"), "\"\xEF\xBF\xBD\"");                              // cut short: one
    CHECK_EQ(json_quoted("\xED\xA0\x80"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");  // a surrogate
    CHECK_EQ(json_quoted("\xC0\xAF"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\"");                  // overlong
    CHECK_EQ(json_quoted("\xF4\x90\x80\x80"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
}

TEST(any_bytes_give_valid_json) {
    pyllama_test::random_source random(7);
    for (int round = 0; round < 3000; ++round) {
        std::string text;
        for (uint32_t n = random.below(24); n > 0; --n) {
            text += static_cast<char>(random.one_in(3) ? random.below(128) : 128 + random.below(128));
        }
        const std::string json = json_quoted(text);
        CHECK(is_valid_utf8(json));
        const auto back = common_json::parse(json).get<std::string>();
        if (is_valid_utf8(text)) {
            CHECK_EQ(back, text);
        }
    }
}

TEST(the_valid_prefix_ends_where_the_text_goes_wrong) {
    CHECK_EQ(valid_utf8_prefix("abc"), 3u);
    CHECK_EQ(valid_utf8_prefix("ab\xC3"), 2u);
    CHECK_EQ(valid_utf8_prefix("\xC3\xA9\x80"), 2u);
}

TEST(numbers_are_json) {
    std::string out;
    append_number(out, 0.1f);
    out += ' ';
    append_number(out, -INFINITY);
    out += ' ';
    append_number(out, static_cast<double>(NAN));
    CHECK_EQ(out, "0.1 -3.4028235e+38 null");
}

TEST(errors_carry_code_type_and_field) {
    std::string out;
    append_error(out, bad_request("no \"x\"", "messages"));
    CHECK_EQ(out, R"({"code":400,"message":"no \"x\"","type":"invalid_request_error","param":"messages"})");
    out.clear();
    append_error(out, context_exceeded(9, 4));
    const auto parsed = common_json::parse(out);
    CHECK_EQ(parsed.at("type").get<std::string>(), "exceed_context_size_error");
    CHECK_EQ(parsed.at("n_prompt_tokens").get<int>(), 9);
    CHECK_EQ(parsed.at("n_ctx").get<int>(), 4);
}

TEST(events_are_framed) {
    CHECK_EQ(sse::event("{}"), "data: {}\n\n");
    CHECK_EQ(sse::named_event("ping", "1"), "event: ping\ndata: 1\n\n");
    CHECK_EQ(sse::error_event("{}"), "data: {\"error\":{}}\n\n");
}
