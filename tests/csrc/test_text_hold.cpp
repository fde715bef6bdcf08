#include "text_hold.h"

#include <string>
#include <vector>

#include "check.h"

using namespace pyllama;
using pyllama_test::random_source;

namespace {

std::string joined(const std::vector<piece> & pieces) {
    std::string text;
    for (const auto & each : pieces) {
        text += each.text;
    }
    return text;
}

piece token(llama_token id, std::string text) {
    piece made;
    made.token = id;
    made.text = std::move(text);
    return made;
}

}  // namespace

TEST(text_without_stop_strings_passes_at_once) {
    text_hold hold({});
    std::vector<piece> out;
    CHECK(hold.add(token(1, "Hello"), out) == nullptr);
    CHECK_EQ(joined(out), "Hello");
    CHECK_EQ(out[0].token, 1);
}

TEST(a_stop_string_across_tokens_is_never_seen) {
    text_hold hold({"STOP"});
    std::vector<piece> out;
    CHECK(hold.add(token(1, "one S"), out) == nullptr);
    CHECK_EQ(joined(out), "");
    CHECK(hold.add(token(2, "TO"), out) == nullptr);
    const std::string * found = hold.add(token(3, "P two"), out);
    CHECK(found != nullptr);
    CHECK_EQ(*found, "STOP");
    CHECK_EQ(joined(out), "one ");
    hold.flush(out);
    CHECK_EQ(joined(out), "one ");
}

TEST(what_only_looked_like_a_stop_string_is_released) {
    text_hold hold({"STOP"});
    std::vector<piece> out;
    hold.add(token(1, "ST"), out);
    CHECK_EQ(out.size(), 0u);
    hold.add(token(2, "ART"), out);
    CHECK_EQ(joined(out), "START");
    CHECK_EQ(out.size(), 2u);
}

TEST(forced_text_is_no_part_of_a_stop_string) {
    text_hold hold({"a END", "END", "D b"});
    std::vector<piece> out;
    CHECK(hold.add(token(1, "a E"), out) == nullptr);
    CHECK_EQ(joined(out), "");
    hold.flush(out);
    hold.pass(token(2, "ND END"), out);
    CHECK_EQ(joined(out), "a END END");
    CHECK(hold.add(token(3, " b"), out) == nullptr);
    CHECK_EQ(joined(out), "a END END b");
}

TEST(forced_text_leaves_in_whole_characters) {
    text_hold hold({});
    std::vector<piece> out;
    CHECK(hold.complete());
    hold.pass(token(1, "\xC3"), out);
    CHECK(!hold.complete());
    CHECK_EQ(joined(out), "");
    hold.pass(token(2, "\xA9"), out);
    CHECK(hold.complete());
    CHECK_EQ(joined(out), "\xC3\xA9");
}

TEST(the_earliest_stop_string_wins) {
    text_hold hold({"bc", "abcd"});
    std::vector<piece> out;
    CHECK_EQ(*hold.add(token(1, "xabcd"), out), "abcd");
    CHECK_EQ(joined(out), "x");
}

TEST(an_incomplete_character_waits_for_its_end) {
    text_hold hold({});
    std::vector<piece> out;
    hold.add(token(1, "\xF0\x9F"), out);
    CHECK_EQ(out.size(), 0u);
    hold.add(token(2, "\x98\x80!"), out);
    CHECK_EQ(joined(out), "\xF0\x9F\x98\x80!");
    CHECK_EQ(out.size(), 2u);
}

TEST(an_incomplete_character_at_the_end_is_left_out) {
    for (const char * stop : {"x", "a\xE2\x82\xACx"}) {
        text_hold hold({stop});
        std::vector<piece> out;
        hold.add(token(1, "a\xE2"), out);
        hold.add(token(2, "\x82"), out);
        CHECK_EQ(out.size(), 0u);
        hold.flush(out);
        CHECK_EQ(joined(out), "a");
        CHECK_EQ(out.size(), 2u);
    }
}

TEST(bytes_that_begin_no_character_do_not_wait) {
    CHECK_EQ(incomplete_utf8_tail("a\xFF"), 0u);
    CHECK_EQ(incomplete_utf8_tail("a\xC0"), 0u);
    CHECK_EQ(incomplete_utf8_tail("\x80\x80\x80\x80"), 0u);
    CHECK_EQ(incomplete_utf8_tail("\xC3"), 1u);
    CHECK_EQ(incomplete_utf8_tail("\xF0\x9F\x98"), 3u);
    CHECK_EQ(incomplete_utf8_tail("\xC3\xA4"), 0u);
}

// Whatever the token borders, what is released is the text up to the first stop string.
TEST(random_token_borders_change_nothing) {
    random_source random(3);
    const std::vector<std::string> stops = {"ab", "bab", "\xC3\xA4"};
    for (int round = 0; round < 3000; ++round) {
        std::string text;
        for (uint32_t i = 0; i < 1 + random.below(30); ++i) {
            const char * parts[] = {"a", "b", "c", "\xC3\xA4", "\xE2\x82\xAC"};
            text += parts[random.below(random.one_in(3) ? 5 : 3)];
        }
        size_t expected_end = std::string::npos;
        for (const auto & stop : stops) {
            expected_end = std::min(expected_end, text.find(stop));
        }
        text_hold hold(stops);
        std::vector<piece> out;
        bool stopped = false;
        for (size_t at = 0; at < text.size() && !stopped;) {
            const size_t length = std::min<size_t>(1 + random.below(4), text.size() - at);
            stopped = hold.add(token(1, text.substr(at, length)), out) != nullptr;
            at += length;
        }
        if (!stopped) {
            hold.flush(out);
        }
        // A stop string found late may begin earlier than one that was complete before it, never the reverse.
        const std::string seen = joined(out);
        CHECK_EQ(stopped, expected_end != std::string::npos);
        CHECK_EQ(seen, text.substr(0, seen.size()));
        CHECK(!stopped || seen.size() >= expected_end);
        for (const auto & stop : stops) {
            CHECK_EQ(seen.find(stop), std::string::npos);
        }
        CHECK(stopped || seen == text);
    }
}
