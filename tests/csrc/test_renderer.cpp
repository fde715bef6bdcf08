#include "renderer.h"

#include <atomic>
#include <thread>

#include "check.h"
#include "recording_writer.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

// A reader as the HTTP layer is one: it reads only after its waker told it to.
struct reader_outcome {
    std::string bytes;       // gaps left out
    uint64_t n_lost = 0;     // bytes in gaps
    bool consistent = true;  // what came is what was sent at these offsets
};

reader_outcome read_to_the_end(stream_session & session, const std::string & expected, size_t max_bytes) {
    const auto w = std::make_shared<waker>();
    reader_outcome outcome;
    uint64_t offset = 0;
    session.subscribe(w, 1);
    for (bool finished = false; !finished && w->wait();) {
        w->drain();
        for (;;) {
            const read_result got = session.read(offset, max_bytes);
            if (got.lost) {
                outcome.n_lost += got.next_offset - offset;
            } else if (expected.compare(static_cast<size_t>(offset), got.slice.text().size(), got.slice.text()) != 0) {
                outcome.consistent = false;
            }
            outcome.bytes += got.slice.text();
            offset = got.next_offset;
            finished = got.finished;
            if (finished || (got.slice.text().empty() && !got.lost)) {
                break;
            }
        }
    }
    session.unsubscribe(w.get(), 1);
    return outcome;
}

std::string expected_bytes(int n_pieces) {
    std::string bytes = "<start>";
    for (int i = 0; i < n_pieces; i++) {
        bytes += "[" + std::to_string(i) + "]";
    }
    return bytes + "<finish>";
}

// The engine's part: each step pushes a piece to every channel, and notifies once.
void generate(
    renderer & render, const std::vector<recorded_channel> & requests, int n_pieces,
    const std::function<void(int)> & after_step = [](int) {}) {
    for (int i = -1; i <= n_pieces; i++) {
        for (const recorded_channel & r : requests) {
            const bool was_clean = i < 0          ? r.channel->push_start()
                                   : i < n_pieces ? r.channel->push(text_piece(std::to_string(i)))
                                                  : r.channel->push_finish({});
            if (was_clean) {
                render.mark(r.channel);
            }
        }
        render.notify();
        after_step(i);
    }
}

void step(renderer & render, const recorded_channel & r, const std::string & text) {
    if (r.channel->push(text_piece(text))) {
        render.mark(r.channel);
    }
    render.notify();
}

// As a reader that w wakes, until the channel's session has these bytes.
void wait_for(waker & w, const recorded_channel & r, const std::string & bytes) {
    while (r.bytes() != bytes && w.wait()) {
        w.drain();
    }
    CHECK_EQ(r.bytes(), bytes);
}

}  // namespace

TEST(every_reader_sees_the_same_bytes_late_ones_too) {
    constexpr int n_pieces = 2000;
    const std::string expected = expected_bytes(n_pieces);
    renderer render;
    const std::vector<recorded_channel> requests(3);
    std::vector<reader_outcome> outcomes(requests.size() * 4);
    std::vector<std::thread> readers;
    const auto attach = [&](size_t i) {
        const std::shared_ptr<stream_session> session = requests[i % requests.size()].session;
        readers.emplace_back([&, i, session] { outcomes[i] = read_to_the_end(*session, expected, 1 + 50 * i); });
    };
    // A third of them before the start, a third in the middle, the rest after the end.
    size_t n_attached = 0;
    for (; n_attached < 4; n_attached++) {
        attach(n_attached);
    }
    generate(render, requests, n_pieces, [&](int step) {
        if (step > 0 && step % 500 == 0 && n_attached < 8) {
            attach(n_attached++);
        }
    });
    render.close();
    while (n_attached < outcomes.size()) {
        attach(n_attached++);
    }
    for (std::thread & reader : readers) {
        reader.join();
    }
    for (const reader_outcome & outcome : outcomes) {
        CHECK_EQ(outcome.bytes, expected);
        CHECK_EQ(outcome.n_lost, 0);
    }
    for (const recorded_channel & r : requests) {
        CHECK(r.record->destroyed);
    }
}

TEST(a_slow_reader_loses_whole_events_and_never_gets_wrong_bytes) {
    constexpr int n_pieces = 20'000;
    const std::string expected = expected_bytes(n_pieces);
    renderer render;
    const std::vector<recorded_channel> requests{recorded_channel(256)};
    reader_outcome racing;
    std::thread reader([&] { racing = read_to_the_end(*requests[0].session, expected, 16); });
    generate(render, requests, n_pieces);
    render.close();
    reader.join();
    CHECK(racing.consistent);
    CHECK_EQ(racing.bytes.size() + racing.n_lost, expected.size());

    // One that comes after the end has certainly been overtaken.
    const reader_outcome late = read_to_the_end(*requests[0].session, expected, 16);
    CHECK(late.consistent);
    CHECK(late.n_lost >= expected.size() - 256);
    CHECK_EQ(late.bytes, expected.substr(expected.size() - late.bytes.size()));
    CHECK(late.bytes[0] == '[');
}

TEST(held_text_is_flushed_when_it_is_due) {
    renderer render;
    recorded_channel r;
    r.record->hold_text = true;
    r.record->flush_ms = 2;
    const auto w = std::make_shared<waker>();
    r.session->subscribe(w, 1);
    r.channel->push(text_piece("held"));
    render.mark(r.channel);
    render.notify();
    // Nothing is pushed any more: only the timed flush can bring the text.
    wait_for(*w, r, "<start>[held]");
    CHECK_EQ(r.record->n_flushes.load(), 1);
    CHECK_EQ(r.session->state(), session_state::started);
}

TEST(tokens_that_come_faster_than_the_pace_share_a_wake_up) {
    std::atomic<int> n_passes{0};
    const auto count = [&] { ++n_passes; };
    renderer render(count, std::chrono::hours(1));
    recorded_channel r;
    const auto push = [&](const char * text) { step(render, r, text); };
    const auto w = std::make_shared<waker>();
    r.session->subscribe(w, 1);
    // The second follows the first at once: only then is it known that they come fast.
    push("a");
    wait_for(*w, r, "<start>[a]");
    push("b");
    wait_for(*w, r, "<start>[a][b]");
    std::string expected = "<start>[a][b]";
    for (int i = 0; i < 1000; ++i) {
        push("c");
        expected += "[c]";
        std::this_thread::yield();  // to a thread that does not hold them back
    }
    CHECK_EQ(r.bytes(), "<start>[a][b]");
    render.close();
    CHECK_EQ(r.bytes(), expected);
    CHECK_EQ(n_passes.load(), 2);
}

TEST(tokens_that_share_a_wake_up_do_not_wait_for_another) {
    renderer render;
    recorded_channel r;
    const auto w = std::make_shared<waker>();
    r.session->subscribe(w, 1);
    std::string expected = "<start>";
    for (int i = 0; i < 100; ++i) {
        // A run of any length may be the last: what it ends with must come by itself.
        for (int n = 0; n <= i % 7; ++n) {
            step(render, r, std::to_string(n));
            expected += "[" + std::to_string(n) + "]";
        }
        wait_for(*w, r, expected);
    }
}

TEST(a_flush_that_is_due_does_not_wait_for_the_pace) {
    renderer render({}, std::chrono::hours(1));
    recorded_channel r;
    recorded_channel held;
    held.record->hold_text = true;
    held.record->flush_ms = 2;
    const auto w = std::make_shared<waker>();
    r.session->subscribe(w, 1);
    held.session->subscribe(w, 2);
    step(render, r, "a");
    wait_for(*w, r, "<start>[a]");
    step(render, held, "b");
    wait_for(*w, held, "<start>[b]");
    CHECK_EQ(held.record->n_flushes.load(), 1);
}

TEST(costly_writers_share_one_budget) {
    renderer render;
    std::vector<recorded_channel> requests(5);
    requests[0].record->n_costly = 1;
    requests[1].record->n_costly = 2;  // of its choices
    requests[2].record->n_costly = 1;
    const auto w = std::make_shared<waker>();
    const auto feed = [&](size_t i) {
        const uint64_t before = requests[i].session->end_offset();
        requests[i].session->subscribe(w, 1);
        requests[i].channel->push(text_piece("x"));
        render.mark(requests[i].channel);
        render.notify();
        while (requests[i].session->end_offset() == before) {
            w->wait();
            w->drain();
        }
        requests[i].session->unsubscribe(w.get(), 1);
    };
    for (size_t i = 0; i < requests.size(); i++) {
        feed(i);
    }
    feed(0);
    requests[1].channel->push_finish({});
    render.mark(requests[1].channel);
    feed(2);
    feed(4);
    render.close();
    CHECK_EQ(requests[0].record->n_sharing.load(), 4u);
    CHECK_EQ(requests[2].record->n_sharing.load(), 2u);  // one of the three has ended
}

TEST(a_failing_writer_leaves_the_other_channels_alone) {
    renderer render;
    std::vector<recorded_channel> requests(4);
    requests[1].record->throw_at = "pieces";
    generate(render, requests, 10);
    render.close();
    for (size_t i = 0; i < requests.size(); i++) {
        CHECK_EQ(requests[i].session->state(), session_state::finished);
        CHECK_EQ(requests[i].session->failure().has_value(), i == 1);
        CHECK(i == 1 || requests[i].bytes() == expected_bytes(10));
    }
}

TEST(close_renders_what_is_pending) {
    recorded_channel finished;
    recorded_channel held;
    held.record->hold_text = true;
    held.record->flush_ms = 60'000;
    renderer render;
    finished.channel->push_finish({});
    held.channel->push(text_piece("x"));
    render.mark(finished.channel);
    render.mark(held.channel);  // and no notify()
    render.close();
    CHECK_EQ(finished.bytes(), "<start><finish>");
    CHECK_EQ(held.bytes(), "<start>[x]");

    recorded_channel late;
    late.channel->push_finish({});
    render.mark(late.channel);
    render.notify();
    render.close();
    CHECK_EQ(late.bytes(), "");
    CHECK_EQ(late.channel.use_count(), 1);
}

TEST(close_may_be_called_by_several_threads) {
    for (int i = 0; i < 50; i++) {
        renderer render;
        recorded_channel r;
        r.channel->push_finish({});
        render.mark(r.channel);
        std::atomic<int> n_finished{0};
        std::vector<std::thread> closers;
        for (int c = 0; c < 3; c++) {
            closers.emplace_back([&] {
                render.close();
                n_finished += r.session->state() == session_state::finished ? 1 : 0;
            });
        }
        for (std::thread & closer : closers) {
            closer.join();
        }
        CHECK_EQ(n_finished.load(), 3);
    }
}
