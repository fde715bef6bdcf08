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

TEST(sequences_that_overlap_are_found) {
    sequence_matcher matcher({{1, 1, 2}});
    CHECK(matcher.advance(1) == nullptr);
    CHECK(matcher.advance(1) == nullptr);
    CHECK(matcher.advance(1) == nullptr);
    CHECK(matcher.advance(2) != nullptr);
}
