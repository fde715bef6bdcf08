#include "stream.h"

#include "check.h"
#include "recording_writer.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

constexpr size_t n_all = SIZE_MAX;

bool marked(waker & w, uint64_t key) {
    const std::vector<uint64_t> keys = w.drain();
    return keys.size() == 1 && keys[0] == key;
}

}  // namespace

TEST(a_session_goes_from_accepted_to_finished_and_never_back) {
    stream_session session(0);
    CHECK_EQ(session.state(), session_state::accepted);
    CHECK(!session.read(0, n_all).finished);
    session.start();
    CHECK_EQ(session.state(), session_state::started);
    session.append("abc");
    session.finish(std::nullopt);
    session.start();
    session.append("late");
    session.finish(error(error_kind::engine, "late"));
    CHECK_EQ(session.state(), session_state::finished);
    CHECK(!session.failure());
    CHECK_EQ(session.end_offset(), 3);

    const read_result whole = session.read(0, n_all);
    CHECK_EQ(whole.slice.text(), "abc");
    CHECK(whole.finished && !whole.lost);
    CHECK(session.read(3, n_all).finished);
    CHECK_EQ(session.read(3, n_all).slice.text(), "");
}

TEST(a_session_can_fail_before_its_start) {
    stream_session session(0);
    session.finish(error(error_kind::busy, "full"));
    CHECK_EQ(session.state(), session_state::finished);
    CHECK(session.failure().has_value());
    CHECK_EQ(session.failure()->kind, error_kind::busy);
    CHECK(session.read(0, n_all).finished);
}

TEST(a_read_ends_only_with_the_last_byte) {
    stream_session session(0);
    session.append("aaaa");
    session.append("bbbb");
    session.finish(std::nullopt);
    const read_result half = session.read(0, 5);
    CHECK_EQ(half.slice.text(), "aaaa");
    CHECK_EQ(half.next_offset, 4);
    CHECK(!half.finished);
    CHECK(session.read(half.next_offset, 5).finished);
}

TEST(a_reader_overtaken_by_the_ring_is_told_so) {
    stream_session session(8);
    session.append("aaaa");
    session.append("bbbb");
    session.append("cccc");
    session.finish(std::nullopt);
    const read_result gap = session.read(2, n_all);
    CHECK(gap.lost && !gap.finished);
    CHECK_EQ(gap.slice.text(), "");
    CHECK_EQ(gap.first_offset, 4);
    CHECK_EQ(gap.next_offset, 4);
    CHECK_EQ(session.read(gap.next_offset, n_all).slice.text(), "bbbbcccc");
}

TEST(an_offset_in_the_future_waits_for_the_stream) {
    stream_session session(0);
    session.append("aa");
    const read_result early = session.read(3, n_all);
    CHECK(early.slice.text().empty() && !early.lost && !early.finished);
    CHECK_EQ(early.next_offset, 3);
    session.append("bb");
    CHECK_EQ(session.read(3, n_all).slice.text(), "b");
    session.finish(std::nullopt);
    CHECK(session.read(9, n_all).finished);
}

TEST(a_subscriber_is_told_at_once_what_is_there_already) {
    const auto w = std::make_shared<waker>();
    stream_session accepted(0);
    accepted.subscribe(w, 1);
    CHECK(w->drain().empty());

    stream_session started(0);
    started.start();
    started.subscribe(w, 2);
    CHECK(marked(*w, 2));

    stream_session with_bytes(0);
    with_bytes.append("a");
    with_bytes.subscribe(w, 3);
    CHECK(marked(*w, 3));
}

TEST(subscriptions_end_by_waker_or_by_key) {
    const auto first = std::make_shared<waker>();
    const auto second = std::make_shared<waker>();
    stream_session session(0);
    session.subscribe(first, 1);
    session.subscribe(first, 1);
    session.subscribe(second, 1);
    session.subscribe(second, 2);
    session.wake();
    CHECK(marked(*first, 1));
    CHECK_EQ(second->drain().size(), 2);

    session.unsubscribe(first.get(), 1);
    session.wake();
    CHECK(first->drain().empty());
    CHECK_EQ(second->drain().size(), 2);

    session.subscribe(nullptr, 1);
    session.wake();
    CHECK(marked(*second, 2));
    CHECK_EQ(first.use_count(), 1);
}

TEST(a_session_equals_its_model_under_random_operations) {
    for (uint32_t seed = 0; seed < 80; seed++) {
        random_source random(seed);
        const size_t capacity = seed % 4 == 0 ? 0 : 20 + random.below(200);
        stream_session session(capacity);
        std::string all;
        bool finished = false;
        uint64_t offset = 0;  // of a reader that may fall behind
        for (int step = 0; step < 400; step++) {
            switch (random.below(finished ? 2 : 8)) {
                case 0:
                case 1: {
                    const size_t max_bytes = random.below(100);
                    const read_result got = session.read(offset, max_bytes);
                    CHECK_EQ(got.lost, offset < got.first_offset);
                    CHECK(capacity != 0 || !got.lost);
                    if (!got.lost) {
                        CHECK_EQ(got.slice.text(), all.substr(static_cast<size_t>(offset), got.slice.text().size()));
                        CHECK_EQ(got.slice.text().empty(), offset == all.size());
                        CHECK_EQ(got.next_offset, offset + got.slice.text().size());
                    }
                    CHECK_EQ(got.finished, finished && got.next_offset == all.size());
                    CHECK(got.next_offset >= got.first_offset);
                    offset = got.next_offset;
                    break;
                }
                case 2:
                    if (random.one_in(40)) {
                        session.finish(std::nullopt);
                        finished = true;
                    }
                    break;
                default: {
                    std::string event(random.below(19), static_cast<char>('a' + step % 26));
                    session.append(event);
                    all += event;
                    CHECK_EQ(session.end_offset(), all.size());
                    CHECK(capacity == 0 || all.size() - session.read(0, 0).first_offset <= capacity);
                }
            }
        }
    }
}

TEST(a_channel_calls_its_writer_in_order) {
    recorded_channel r;
    CHECK(r.channel->push_start());
    CHECK(!r.channel->push(text_piece("a")));  // dirty already
    CHECK(!r.channel->render());
    CHECK_EQ(r.bytes(), "<start>[a]");
    CHECK_EQ(r.session->state(), session_state::started);
    CHECK(r.channel->push(text_piece("b")));
    CHECK(!r.channel->push(text_piece("c")));
    CHECK(!r.channel->push_finish({}));
    CHECK(r.channel->render());
    CHECK_EQ(r.bytes(), "<start>[a][b][c]<finish>");
    CHECK_EQ(r.session->state(), session_state::finished);
    CHECK(!r.session->failure());
    CHECK(r.record->destroyed);
}

TEST(a_finish_implies_the_start) {
    recorded_channel r;
    CHECK(r.channel->push_finish({}));
    CHECK(r.channel->render());
    CHECK_EQ(r.bytes(), "<start><finish>");
}

TEST(progress_starts_the_stream_and_every_step_is_told) {
    recorded_channel r;
    const auto at = [](int n) { return prefill_progress{100, 10, n, 1.0}; };
    CHECK(r.channel->push_progress(at(10)));
    CHECK(!r.channel->push_progress(at(60)));
    r.channel->render();
    CHECK_EQ(r.session->state(), session_state::started);
    CHECK_EQ(r.bytes(), "<start><10 of 100><60 of 100>");
    CHECK(r.channel->push_progress(at(100)));
    CHECK(!r.channel->push(text_piece("x")));
    r.channel->render();
    CHECK_EQ(r.bytes(), "<start><10 of 100><60 of 100><100 of 100>[x]");
    r.channel->push_finish({});
    CHECK(!r.channel->push_progress(at(100)));
}

TEST(choices_end_one_by_one_and_the_last_ends_the_request) {
    recorded_channel r(0, 3);
    r.channel->push(text_piece("a", 1));
    r.channel->push(text_piece("b"));
    r.channel->push(text_piece("c", 1));
    r.channel->push_finish(result_of(1));
    CHECK(!r.channel->render());
    CHECK_EQ(r.bytes(), "<start>[b][1:a][1:c]<finish 1>");
    CHECK_EQ(r.record->n_ends.load(), 0);
    r.channel->push_finish(result_of(0, error(error_kind::engine, "grammar")));
    CHECK(!r.channel->render());
    r.channel->push(text_piece("d", 2));
    r.channel->push_finish(result_of(2));
    CHECK(r.channel->render());
    CHECK_EQ(r.bytes(), "<start>[b][1:a][1:c]<finish 1><failure grammar>[2:d]<finish 2>");
    CHECK_EQ(r.record->n_ends.load(), 1);
    CHECK(!r.session->failure());
    CHECK(!r.channel->push(text_piece("late")));
}

TEST(a_request_has_failed_when_all_its_choices_have) {
    recorded_channel r(0, 2);
    r.channel->push(text_piece("a"));
    r.channel->push_finish(result_of(1, error(error_kind::engine, "first")));
    r.channel->render();
    r.channel->push_finish(result_of(0, error(error_kind::engine, "second")));
    CHECK(r.channel->render());
    CHECK_EQ(r.bytes(), "<start>[a]<failure first 1><fail second>");
    CHECK_EQ(r.session->failure()->what(), std::string("second"));
    CHECK_EQ(r.record->n_ends.load(), 0);

    recorded_channel unstarted(0, 2);
    unstarted.channel->push_finish(result_of(0, error(error_kind::engine, "first")));
    unstarted.channel->push_finish(result_of(1, error(error_kind::engine, "second")));
    CHECK(unstarted.channel->render());
    CHECK_EQ(unstarted.bytes(), "");
    CHECK_EQ(unstarted.session->failure()->what(), std::string("first"));
}

TEST(a_failure_ends_all_choices) {
    recorded_channel r(0, 2);
    r.channel->push_finish(result_of(1));
    r.channel->push_failure(error(error_kind::unavailable, "shutting down"));
    CHECK(!r.channel->push_finish(result_of(0)));
    CHECK(r.channel->render());
    CHECK_EQ(r.bytes(), "<start><finish 1><fail shutting down>");
    CHECK_EQ(r.session->failure()->kind, error_kind::unavailable);
}

TEST(a_failure_before_the_start_sends_no_bytes) {
    recorded_channel r;
    CHECK(r.channel->push_failure(error(error_kind::unavailable, "shutting down")));
    CHECK(r.channel->render());
    CHECK_EQ(r.bytes(), "");
    CHECK_EQ(r.session->failure()->kind, error_kind::unavailable);
    CHECK(r.record->destroyed);
}

TEST(a_failure_after_the_start_sends_the_dialects_error) {
    recorded_channel r;
    r.channel->push_start();
    r.channel->push(text_piece("a"));
    r.channel->push_failure(error(error_kind::engine, "decode"));
    CHECK(r.channel->render());
    CHECK_EQ(r.bytes(), "<start>[a]<fail decode>");
    CHECK_EQ(std::string(r.session->failure()->what()), "decode");
}

TEST(nothing_follows_the_end) {
    recorded_channel r;
    r.channel->push_finish({});
    CHECK(!r.channel->push(text_piece("late")));
    CHECK(!r.channel->push_failure(error(error_kind::engine, "late")));
    CHECK(r.channel->render());
    CHECK(!r.channel->push_start());
    CHECK(!r.channel->push_finish({}));
    CHECK(r.channel->render());
    r.channel->flush();
    CHECK(r.channel->flush_due_ms() < 0);
    CHECK_EQ(r.bytes(), "<start><finish>");
    CHECK(!r.session->failure());
}

TEST(an_exception_of_the_writer_ends_the_session) {
    for (const char * where : {"start", "pieces", "finish", "flush"}) {
        recorded_channel r;
        const auto w = std::make_shared<waker>();
        r.record->throw_at = where;
        r.session->subscribe(w, 5);
        r.channel->push_start();
        r.channel->push(text_piece("a"));
        r.channel->render();
        r.channel->flush();
        r.channel->push_finish({});
        r.channel->render();
        CHECK(marked(*w, 5));
        CHECK_EQ(r.session->state(), session_state::finished);
        CHECK(r.session->failure().has_value());
        CHECK_EQ(r.session->failure()->kind, error_kind::engine);
        const std::string reason = std::string("thrown by ") + where;
        CHECK_EQ(std::string(r.session->failure()->what()), reason);
        // The client had bytes already: it is told.
        CHECK(r.bytes().find("<fail " + reason + ">") != std::string::npos);
        CHECK(r.record->destroyed);
    }
}

TEST(an_exception_of_fail_keeps_the_engines_reason) {
    recorded_channel r;
    r.record->throw_at = "fail";
    r.channel->push_start();
    r.channel->push_failure(error(error_kind::unavailable, "shutting down"));
    CHECK(r.channel->render());
    CHECK_EQ(r.session->failure()->kind, error_kind::unavailable);
    CHECK(r.record->destroyed);
}

TEST(readers_are_woken_only_for_a_change) {
    recorded_channel r;
    const auto w = std::make_shared<waker>();
    r.record->hold_text = true;
    r.session->subscribe(w, 1);
    r.channel->push_start();
    r.channel->render();
    CHECK(marked(*w, 1));
    r.channel->push(text_piece("a"));
    r.channel->render();
    CHECK(w->drain().empty());  // the writer holds the text back
    CHECK(r.channel->flush_due_ms() >= 0);
    r.channel->flush();
    CHECK(marked(*w, 1));
    CHECK(r.channel->flush_due_ms() < 0);
    CHECK_EQ(r.bytes(), "<start>[a]");
}
