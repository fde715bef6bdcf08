#include "request_queue.h"

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "check.h"
#include "engine_fixture.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

// A queue whose requests are known by the length of their prompt.
class numbered {
  public:
    ~numbered() {
        for (queued_request & each : queue) {
            end(*each.leader);
        }
        renderer_.close();
    }

    std::unique_ptr<generation> make(size_t number, int32_t priority) {
        prepared_request prepared = request(std::vector<llama_token>(number, 100), 1);
        prepared.params.priority = priority;
        return std::make_unique<generation>(demo_model(), std::move(prepared), stream_limits{}, 1024);
    }
    void add(size_t number, int32_t priority = 0) { queue.add(make(number, priority)); }

    size_t take() {
        auto first = queue.begin();
        const auto taken = queue.take(first);
        end(*taken);
        return taken->tokens().size();
    }
    std::vector<size_t> take_all() {
        std::vector<size_t> order;
        while (!queue.empty()) {
            order.push_back(take());
        }
        return order;
    }

    std::vector<int32_t> positions() {
        queue.tell_positions();
        std::vector<int32_t> told;
        for (const queued_request & each : queue) {
            told.push_back(each.leader->control()->group->queue_position.load());
        }
        return told;
    }

    request_queue queue;

  private:
    void end(generation & taken) { taken.finish(finish_reason::cancelled, renderer_); }

    renderer renderer_;
};

using numbers = std::vector<size_t>;

}  // namespace

TEST(equals_are_served_in_order_of_arrival) {
    numbered each;
    for (size_t i = 1; i <= 5; ++i) {
        each.add(i);
    }
    CHECK(each.take_all() == (numbers{1, 2, 3, 4, 5}));
}

TEST(a_higher_priority_goes_first) {
    numbered each;
    each.add(1, -1);
    each.add(2);
    each.add(3, 2);
    each.add(4);
    each.add(5, 2);
    CHECK(each.take_all() == (numbers{3, 5, 2, 4, 1}));
}

TEST(a_request_is_passed_by_so_many_of_a_higher_priority_and_no_more) {
    for (const int32_t above : {1, 3}) {
        numbered each;
        each.add(1);
        size_t n_passed = 0;
        for (each.add(2, above); each.take() != 1 && n_passed < 10000; ++n_passed) {
            each.add(2, above);  // there is always another one
        }
        CHECK_EQ(n_passed, static_cast<size_t>(above * request_queue::priority_worth));
    }
}

TEST(a_request_that_waited_long_is_not_passed_by_a_new_one) {
    numbered each;
    each.add(1);
    for (int64_t i = 0; i < request_queue::priority_worth; ++i) {
        each.add(2, 10);
        CHECK_EQ(each.take(), size_t{2});
    }
    each.add(3, 1);  // worth as many as have passed the first one
    CHECK_EQ(each.take(), size_t{1});
}

TEST(a_parked_request_is_first) {
    numbered each;
    each.add(1, 10);
    each.queue.put_back(each.make(2, -10));
    each.add(3, 10);
    each.queue.put_back(each.make(4, -10));
    CHECK(each.take_all() == (numbers{4, 2, 1, 3}));
}

TEST(positions_are_told) {
    numbered each;
    each.add(1);
    each.add(2);
    each.add(3, 5);
    CHECK(each.positions() == (std::vector<int32_t>{0, 1, 2}));
    CHECK_EQ(each.queue.begin()->leader->tokens().size(), size_t{3});
    auto second = std::next(each.queue.begin());
    const auto taken = each.queue.take(second);
    CHECK_EQ(taken->control()->group->queue_position.load(), -1);
    CHECK_EQ(second->leader->tokens().size(), size_t{2});
    CHECK(each.positions() == (std::vector<int32_t>{0, 1}));
    each.queue.put_back(each.make(4, 0));
    CHECK(each.positions() == (std::vector<int32_t>{0, 1, 2}));
}

TEST(a_random_queue_agrees_with_a_plain_sort) {
    random_source random(3);
    for (int round = 0; round < 20; ++round) {
        numbered each;
        struct entry {
            int64_t rank;
            size_t number;
        };
        std::vector<entry> expected;
        int64_t n_taken = 0;
        for (size_t number = 1; number <= 60; ++number) {
            const auto priority = static_cast<int32_t>(random.below(5)) - 2;
            each.add(number, priority);
            expected.push_back({n_taken - priority * request_queue::priority_worth, number});
            while (!expected.empty() && random.one_in(2)) {
                const auto first =
                    std::min_element(expected.begin(), expected.end(), [](const entry & a, const entry & b) {
                        return std::make_pair(a.rank, a.number) < std::make_pair(b.rank, b.number);
                    });
                CHECK_EQ(each.take(), first->number);
                expected.erase(first);
                ++n_taken;
            }
        }
    }
}

TEST(the_wait_follows_from_what_requests_took) {
    service_time served;
    CHECK_EQ(served.until_served(1000, 4), 1);  // nothing is known
    served.observe(10);
    CHECK_EQ(served.until_served(4, 4), 10);
    CHECK_EQ(served.until_served(8, 4), 20);
    CHECK_EQ(served.until_served(1, 4), 3);
    CHECK_EQ(served.until_served(100000, 1), 3600);
    for (int i = 0; i < 200; ++i) {
        served.observe(2);
    }
    CHECK_EQ(served.until_served(16, 4), 9);  // 8 and a little, rounded up
    served.observe(0);
    CHECK_EQ(served.until_served(0, 0), 1);
}
