#include "ring.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>

#include "check.h"

using namespace pyllama;
using pyllama_test::random_source;

namespace {

// What a ring is, without being clever: the events kept, each with its offset and id.
class ring_model {
  public:
    explicit ring_model(size_t capacity) : capacity_(capacity) {}

    void append(const std::string & event) {
        if (event.empty()) {
            return;
        }
        while (capacity_ != 0 && !events_.empty() && n_held() + event.size() > capacity_) {
            first_ += events_.front().size();
            events_.pop_front();
            first_event_++;
        }
        events_.push_back(event);
    }

    size_t n_held() const {
        size_t n = 0;
        for (const std::string & event : events_) {
            n += event.size();
        }
        return n;
    }

    std::string read(uint64_t offset, size_t max_bytes) const {
        std::string bytes;
        uint64_t begin = first_;
        for (const std::string & event : events_) {
            const uint64_t end = begin + event.size();
            if (end > offset) {
                const std::string part = event.substr(offset > begin ? static_cast<size_t>(offset - begin) : 0);
                if (!bytes.empty() && bytes.size() + part.size() > max_bytes) {
                    break;
                }
                bytes += part;
            }
            begin = end;
        }
        return bytes;
    }

    uint64_t first() const { return first_; }
    uint64_t end() const { return first_ + n_held(); }
    uint64_t first_event() const { return first_event_; }
    uint64_t end_event() const { return first_event_ + events_.size(); }

  private:
    size_t capacity_;
    std::deque<std::string> events_;
    uint64_t first_ = 0;
    uint64_t first_event_ = 0;
};

std::string random_bytes(random_source & random, size_t n) {
    std::string bytes(n, '\0');
    for (char & byte : bytes) {
        byte = static_cast<char>(random.below(256));
    }
    return bytes;
}

// The events of a slice that was read from `offset`: each ends where the one with the next id begins.
void check_events(const ring & actual, const ring_slice & slice, uint64_t offset) {
    CHECK_EQ(slice.event_ends.empty(), slice.n_bytes() == 0);
    uint64_t id = slice.first_event;
    CHECK_EQ(slice.starts_event, actual.offset_of(id) == offset || slice.n_bytes() == 0);
    CHECK(slice.n_bytes() == 0 || actual.offset_of(id) <= offset);
    for (const uint64_t end : slice.event_ends) {
        CHECK_EQ(actual.offset_of(++id), end);
    }
    CHECK(slice.event_ends.empty() || slice.event_ends.back() == offset + slice.n_bytes());
}

void compare(const ring & actual, const ring_model & model, random_source & random) {
    CHECK_EQ(actual.first_offset(), model.first());
    CHECK_EQ(actual.end_offset(), model.end());
    CHECK_EQ(actual.first_event(), model.first_event());
    CHECK_EQ(actual.end_event(), model.end_event());
    CHECK_EQ(actual.read(model.first(), SIZE_MAX).text(), model.read(model.first(), SIZE_MAX));
    const uint64_t offset = model.first() + random.below(static_cast<uint32_t>(model.n_held()) + 1);
    const size_t max_bytes = random.below(64);
    const ring_slice slice = actual.read(offset, max_bytes, true);
    CHECK_EQ(slice.text(), model.read(offset, max_bytes));
    CHECK_EQ(slice.n_bytes(), slice.text().size());
    check_events(actual, slice, offset);
}

}  // namespace

TEST(an_empty_ring_has_nothing) {
    const ring empty(16);
    CHECK_EQ(empty.first_offset(), 0);
    CHECK_EQ(empty.end_offset(), 0);
    CHECK_EQ(empty.end_event(), 0);
    CHECK_EQ(empty.read(0, 100).text(), "");
    CHECK_EQ(empty.memory(), 0);
}

TEST(the_oldest_events_fall_out_whole) {
    ring bytes(10);
    bytes.append("aaaa");
    bytes.append("bbbb");
    bytes.append("cc");  // exactly full
    CHECK_EQ(bytes.first_offset(), 0);
    bytes.append("d");
    CHECK_EQ(bytes.first_offset(), 4);
    CHECK_EQ(bytes.first_event(), 1);
    CHECK_EQ(bytes.end_event(), 4);
    CHECK_EQ(bytes.read(4, 100).text(), "bbbbccd");
}

TEST(a_read_is_cut_at_an_events_end) {
    ring bytes(0);
    bytes.append("aaaa");
    bytes.append("bbbb");
    bytes.append("cccc");
    CHECK_EQ(bytes.read(0, 9).text(), "aaaabbbb");
    CHECK_EQ(bytes.read(0, 8).text(), "aaaabbbb");
    CHECK_EQ(bytes.read(0, 1).text(), "aaaa");    // at least one event
    CHECK_EQ(bytes.read(2, 6).text(), "aabbbb");  // from inside an event
    CHECK_EQ(bytes.read(12, 6).text(), "");
    CHECK_EQ(bytes.read(13, 6).text(), "");
}

TEST(an_event_beyond_the_capacity_is_kept_alone) {
    ring bytes(2048);
    bytes.append(std::string(100, 'a'));
    bytes.append(std::string(100'000, 'b'));
    CHECK_EQ(bytes.first_offset(), 100);
    CHECK_EQ(bytes.read(100, 10).text(), std::string(100'000, 'b'));
    bytes.append("c");
    CHECK_EQ(bytes.first_offset(), 100'100);
    CHECK_EQ(bytes.read(100'100, 10).text(), "c");
    CHECK(bytes.memory() < 4096);  // and its storage is given back
}

TEST(an_empty_event_takes_no_id) {
    ring bytes(10);
    bytes.append("");
    CHECK_EQ(bytes.end_event(), 0);
    bytes.append("a");
    bytes.append("");
    CHECK_EQ(bytes.end_event(), 1);
}

TEST(a_bounded_ring_never_outgrows_its_capacity) {
    constexpr size_t n_capacity = 4096;
    ring bytes(n_capacity);
    for (int i = 0; i < 1'000'000; i++) {
        bytes.append("x");
    }
    CHECK_EQ(bytes.end_offset(), 1'000'000);
    CHECK_EQ(bytes.end_offset() - bytes.first_offset(), n_capacity);
    CHECK(bytes.memory() <= 3 * n_capacity * (1 + sizeof(uint64_t)));  // an index of single bytes is the larger part
}

TEST(an_unbounded_ring_keeps_everything) {
    ring bytes(0);
    std::string all;
    random_source random(7);
    for (int i = 0; i < 2000; i++) {
        const std::string event = random_bytes(random, random.below(300));
        bytes.append(event);
        all += event;
    }
    CHECK_EQ(bytes.first_offset(), 0);
    CHECK_EQ(bytes.read(0, SIZE_MAX).text(), all);
    CHECK(bytes.memory() >= all.size());
}

TEST(it_equals_its_model_under_random_events) {
    for (uint32_t seed = 0; seed < 60; seed++) {
        random_source random(seed);
        // From capacities below an event to ones beyond the first storage, which then grows before it wraps.
        const size_t capacity = seed % 6 == 0 ? 0 : 1 + random.below(seed % 2 == 0 ? 64 : 5000);
        ring actual(capacity);
        ring_model model(capacity);
        for (int step = 0; step < 300; step++) {
            const uint32_t n_most = random.one_in(20) ? 4 * static_cast<uint32_t>(capacity) + 8 : 40;
            const std::string event = random_bytes(random, random.below(std::min(n_most, 6000u)));
            actual.append(event);
            model.append(event);
            compare(actual, model, random);
        }
    }
}

TEST(a_slice_keeps_its_bytes_whatever_the_ring_does) {
    const auto budget = std::make_shared<byte_budget>(0);
    std::optional<ring_slice> slice;
    std::string all;
    {
        ring bytes(4096, budget);
        random_source random(3);
        for (int i = 0; i < 20; i++) {
            const std::string event = random_bytes(random, 200);
            bytes.append(event);
            all += event;
        }
        slice = bytes.read(1000, SIZE_MAX, true);
        for (int i = 0; i < 100; i++) {
            bytes.append(std::string(200, 'x'));
        }
        CHECK(bytes.first_offset() > all.size());
        bytes.clear();
        CHECK_EQ(bytes.memory(), 0);
        CHECK_EQ(bytes.first_offset(), bytes.end_offset());
        CHECK_EQ(bytes.first_event(), 120);
    }
    CHECK_EQ(slice->text(), all.substr(1000));
    CHECK_EQ(slice->event_ends.size(), 15);
    CHECK(budget->used() >= slice->n_bytes());
    slice.reset();
    CHECK_EQ(budget->used(), 0);
}

TEST(memory_is_given_back_from_the_oldest_block_on) {
    const auto budget = std::make_shared<byte_budget>(0);
    ring bytes(0, budget);
    for (int i = 0; i < 1000; i++) {
        bytes.append(std::string(100, static_cast<char>('a' + i % 26)));
    }
    const size_t n_before = bytes.memory();
    CHECK_EQ(budget->used(), n_before);
    bytes.drop_memory(1);
    CHECK(bytes.memory() < n_before);
    CHECK_EQ(bytes.first_offset() % 100, 0);
    CHECK_EQ(bytes.first_event(), bytes.first_offset() / 100);
    CHECK_EQ(bytes.offset_of(bytes.first_event()), bytes.first_offset());
    bytes.drop_memory(SIZE_MAX);
    CHECK_EQ(bytes.memory(), 0);
    CHECK_EQ(budget->used(), 0);
    bytes.append("a");
    CHECK_EQ(bytes.read(100'000, 1).text(), "a");
}

TEST(a_small_ring_takes_little_and_a_trimmed_one_no_more_than_it_holds) {
    ring bytes(4 * 1024 * 1024);
    bytes.append(std::string(300, 'a'));
    CHECK(bytes.memory() < 1536);
    bytes.append(std::string(9000, 'b'));
    bytes.append(std::string(100, 'c'));
    const ring_slice before = bytes.read(0, SIZE_MAX);
    bytes.trim();
    CHECK(bytes.memory() < 1024 + 9100 + 512);
    CHECK_EQ(bytes.read(0, SIZE_MAX).text(), before.text());
    CHECK_EQ(bytes.offset_of(2), 9300);
}
