#include "waker.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "check.h"

using namespace pyllama;

namespace {

bool readable(const waker & w) {
    pollfd watched{w.fd(), POLLIN, 0};
    return poll(&watched, 1, 0) == 1;
}

std::vector<uint64_t> drained(waker & w) {
    std::vector<uint64_t> keys = w.drain();
    std::sort(keys.begin(), keys.end());
    return keys;
}

}  // namespace

TEST(a_mark_makes_the_descriptor_readable_until_it_is_drained) {
    waker w;
    CHECK(!readable(w));
    CHECK(w.drain().empty());
    w.mark(7);
    w.mark(9);
    w.mark(7);
    CHECK(readable(w));
    CHECK(drained(w) == (std::vector<uint64_t>{7, 9}));
    CHECK(!readable(w));
    CHECK(w.drain().empty());
    w.mark(7);
    CHECK(readable(w));
    CHECK(drained(w) == std::vector<uint64_t>{7});
}

TEST(a_key_may_be_taken_before_its_signal_comes) {
    waker w;
    CHECK(w.add(7));
    CHECK(!w.add(9));
    CHECK(!readable(w));
    CHECK(drained(w) == (std::vector<uint64_t>{7, 9}));
    CHECK(w.add(8));
    w.signal();
    w.signal();  // the first one's, which took its time
    CHECK(readable(w));
    CHECK(drained(w) == std::vector<uint64_t>{8});
    CHECK(!readable(w));
    w.signal();
    CHECK(readable(w));
    CHECK(w.drain().empty());
    CHECK(!readable(w));
    w.signal();
    std::thread marks([&] { w.mark(6); });
    CHECK(w.wait());
    marks.join();
    CHECK(drained(w) == std::vector<uint64_t>{6});
    w.close();
    CHECK(!w.add(7));
    CHECK(readable(w));
}

TEST(many_marks_never_fill_the_descriptor) {
    waker w;
    for (uint64_t key = 0; key < 100'000; key++) {
        w.mark(key);
    }
    CHECK_EQ(w.drain().size(), 100'000);
    CHECK(!readable(w));
}

TEST(closing_ends_marks_and_waits) {
    waker w;
    w.mark(1);
    CHECK(w.wait());
    w.close();
    w.close();
    w.mark(2);
    CHECK(!w.wait());
    CHECK(readable(w));
    CHECK(drained(w) == std::vector<uint64_t>{1});
    CHECK(!w.wait());
    CHECK(readable(w));  // a waiter that is on its way into poll must find it
}

TEST(many_signals_are_cleared_at_once) {
    waker w;
    for (int i = 0; i < 1000; ++i) {
        w.signal();
    }
    CHECK(w.drain().empty());
    CHECK(!readable(w));
}

TEST(close_wakes_every_waiter) {
    waker w;
    std::atomic<int> n_ended{0};
    std::vector<std::thread> waiters;
    for (int i = 0; i < 4; i++) {
        waiters.emplace_back([&] { n_ended += w.wait() ? 0 : 1; });
    }
    w.close();
    w.drain();
    for (std::thread & waiter : waiters) {
        waiter.join();
    }
    CHECK_EQ(n_ended.load(), 4);
}

TEST(no_mark_is_lost_between_threads) {
    constexpr uint64_t n_producers = 4;
    constexpr uint64_t n_marks = 3000;
    waker w;
    std::vector<std::thread> producers;
    for (uint64_t p = 0; p < n_producers; p++) {
        producers.emplace_back([&w, p] {
            for (uint64_t i = 0; i < n_marks; i++) {
                w.mark(p * n_marks + i);
            }
        });
    }
    // Every key is marked once, so this ends only when each of them got through.
    uint64_t n_seen = 0;
    uint64_t sum = 0;
    while (n_seen < n_producers * n_marks && w.wait()) {
        for (const uint64_t key : w.drain()) {
            n_seen++;
            sum += key;
        }
    }
    for (std::thread & producer : producers) {
        producer.join();
    }
    const uint64_t n_all = n_producers * n_marks;
    CHECK_EQ(n_seen, n_all);
    CHECK_EQ(sum, n_all * (n_all - 1) / 2);
    CHECK(!readable(w));
}

TEST(descriptors_are_given_back) {
    int first = -1;
    {
        const waker w;
        first = w.fd();
    }
    for (int i = 0; i < 5000; i++) {
        const waker w;
        CHECK_EQ(w.fd(), first);  // the lowest free number again
    }
}
