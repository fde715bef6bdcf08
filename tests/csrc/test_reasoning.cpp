#include "reasoning.h"

#include "check.h"

using namespace pyllama;

TEST(a_block_is_entered_and_left_by_whole_sequences) {
    reasoning_tracker tracker({{10, 11}}, {{20, 21}, {30}}, false);
    CHECK(!tracker.inside());
    tracker.advance(11);
    tracker.advance(10);
    CHECK(!tracker.inside());
    tracker.advance(11);
    CHECK(tracker.inside());
    CHECK(tracker.advance(20) == nullptr);
    CHECK(tracker.advance(5) == nullptr);
    CHECK(tracker.inside());
    tracker.advance(20);
    const auto * ended = tracker.advance(21);
    CHECK(ended != nullptr);
    CHECK_EQ(ended->size(), 2u);
    CHECK(!tracker.inside());
    CHECK_EQ(tracker.n_tokens(), 2);
}

TEST(tokens_count_over_all_blocks) {
    reasoning_tracker tracker({{1}}, {{2}}, false);
    for (const llama_token token : {1, 7, 7, 2, 9, 1, 7, 2}) {
        tracker.advance(token);
    }
    CHECK(!tracker.inside());
    CHECK_EQ(tracker.n_tokens(), 3);
}

TEST(a_prompt_may_leave_the_block_open) {
    reasoning_tracker tracker({{1}}, {{2}}, true);
    CHECK(tracker.inside());
    tracker.advance(7);
    tracker.advance(2);
    CHECK(!tracker.inside());
    CHECK_EQ(tracker.n_tokens(), 1);
}

TEST(without_tags_nothing_is_reasoning) {
    reasoning_tracker tracker({}, {}, true);
    CHECK(!tracker.inside());
    CHECK(tracker.advance(1) == nullptr);
    CHECK_EQ(tracker.n_tokens(), 0);
}

TEST(a_tag_is_found_however_its_text_is_cut) {
    reasoning_tracker tracker({{10, 11}}, {{20, 21}}, false);
    tracker.read_text({"[think]"}, {"[/think]", "[done]"});
    CHECK(tracker.advance(1, "a [") == nullptr);
    tracker.advance(2, "th");
    tracker.advance(3, "ink] b");
    CHECK(tracker.inside());
    CHECK(tracker.advance(4, "one [") == nullptr);
    CHECK(tracker.advance(5, "[/thi") == nullptr);
    CHECK(tracker.advance(6, "") == nullptr);
    const auto * ended = tracker.advance(7, "nk].\n\n");
    CHECK(ended != nullptr);
    CHECK(*ended == (llama_tokens{5, 7}));
    CHECK(!tracker.inside());
    CHECK_EQ(tracker.n_tokens(), 2);
    // Nothing is left of the first block, and tokens still count.
    tracker.advance(10, "");
    tracker.advance(11, "[think]");
    CHECK(tracker.inside());
    CHECK(tracker.advance(8, "nk]") == nullptr);
    CHECK(tracker.advance(9, "x[done]y") != nullptr);
    CHECK(!tracker.inside());
}

TEST(a_long_text_is_searched_piece_by_piece) {
    sequence_matcher matcher({{1}, {7, 8}});
    matcher.read_text({"<end>"});
    for (int i = 0; i < 1000; ++i) {
        CHECK(matcher.advance(2, i % 2 == 0 ? "<" : "en") == nullptr);
    }
    for (const char * text : {"<", "e", "n", "d"}) {
        CHECK(matcher.advance(3, text) == nullptr);
    }
    const auto * found = matcher.advance(4, ">");
    CHECK(found != nullptr);
    CHECK(*found == (llama_tokens{3, 3, 3, 3, 4}));
}

TEST(sequences_that_overlap_are_found) {
    sequence_matcher matcher({{1, 1, 2}});
    CHECK(matcher.advance(1) == nullptr);
    CHECK(matcher.advance(1) == nullptr);
    CHECK(matcher.advance(1) == nullptr);
    CHECK(matcher.advance(2) != nullptr);
}
