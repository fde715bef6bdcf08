// Requests on their way: how long an idle engine waits for them, and that a crowd begins together.
#include "arrivals.h"

#include <algorithm>
#include <atomic>

#include "check.h"
#include "engine_facade.h"
#include "engine_fixture.h"

using namespace pyllama;
using namespace pyllama_test;
using namespace std::chrono_literals;

namespace {

const arrivals::clock::time_point start = arrivals::clock::time_point() + 1h;

bool waits(const arrivals & coming, double step_ms, arrivals::clock::duration after) {
    return coming.worth_waiting(start, step_ms, start + after).has_value();
}

// The most slots that one step had.
class counting_decoder : public decoder {
  public:
    counting_decoder(const model & source, const common_params & params, std::atomic<size_t> & most)
        : decoder(source, params), most_(most) {}
    decode_status decode(const std::vector<chunk> & plan) override {
        most_ = std::max(most_.load(), plan.size());
        return decoder::decode(plan);
    }

  private:
    std::atomic<size_t> & most_;
};

}  // namespace

TEST(nobody_on_the_way_is_not_waited_for) {
    arrivals coming;
    CHECK(!waits(coming, 1000, 0ms));
    coming.set_out(start);
    CHECK(waits(coming, 1000, 1ms));
    coming.set_out(start + 1ms);
    coming.arrive(start + 2ms);
    CHECK(waits(coming, 1000, 3ms));
    coming.arrive(start + 3ms);
    CHECK(!waits(coming, 1000, 3ms));
}

TEST(a_wait_takes_half_a_step_at_most) {
    arrivals coming;
    coming.set_out(start);
    CHECK(waits(coming, 4, 1900us));
    CHECK(!waits(coming, 4, 2000us));
    CHECK(!waits(coming, 0, 0ms));  // an engine that knows nothing of its steps
    CHECK(*coming.worth_waiting(start, 4, start + 1ms) == start + 2ms);
}

TEST(a_crowd_that_goes_on_coming_is_not_waited_for_without_end) {
    arrivals coming;
    for (int ms = 0; ms < 40; ++ms) {
        coming.set_out(start + ms * 1ms);
        CHECK_EQ(waits(coming, 1e6, ms * 1ms), ms < 30);
    }
}

TEST(one_that_takes_its_time_is_not_waited_for) {
    arrivals coming;
    coming.set_out(start);
    CHECK(waits(coming, 1000, 4ms));
    CHECK(!waits(coming, 1000, 5ms));
    coming.set_out(start + 6ms);  // but another one is
    CHECK(waits(coming, 1000, 7ms));
    CHECK(!waits(coming, 1000, 11ms));
}

TEST(a_request_is_on_its_way_until_it_is_submitted_or_given_up) {
    const auto coming = std::make_shared<arrivals>();
    auto first = std::make_unique<arrival>(coming);
    auto second = std::make_unique<arrival>(coming);
    const auto now = arrivals::clock::now();
    first.reset();
    CHECK(coming->worth_waiting(now, 1000, now));
    second.reset();
    CHECK(!coming->worth_waiting(now, 1000, now));
}

TEST(a_crowd_begins_together) {
    constexpr int n = 8;
    std::atomic<size_t> most{0};
    engine target(demo_model(), engine_params(n, n * 512, true),
                  [&](const model & source, const common_params & params) {
                      return std::make_unique<counting_decoder>(source, params, most);
                  });
    // The others come a little later than an engine that does not wait would begin. A stalled machine may keep one of
    // them longer than is waited for.
    for (uint32_t attempt = 1; most < n && attempt < 50; ++attempt) {
        answer(target.submit(request(prompt(1000 * attempt, 300), 4)));  // what a step takes is known now
        wait_until_idle(target);
        most = 0;
        std::vector<prepared_request> crowd;
        for (uint32_t i = 0; i < n; ++i) {
            crowd.push_back(request(prompt(1000 * attempt + 1 + i, i == 0 ? 300 : 20), 1));
            crowd.back().on_its_way = target.expect();
        }
        std::vector<submitted> handles;
        for (prepared_request & each : crowd) {
            handles.push_back(target.submit(std::move(each)));
            const auto submitted_at = arrivals::clock::now();
            while (handles.size() == 1 && arrivals::clock::now() < submitted_at + 1ms) {
            }
        }
        for (const submitted & each : handles) {
            CHECK(!answer(each).empty());
        }
    }
    CHECK_EQ(most.load(), static_cast<size_t>(n));
}

TEST(who_never_comes_holds_nobody_up) {
    engine target(demo_model(), engine_params(2, 1024, true));
    const std::string alone = answer(target.submit(request(prompt(1, 100), 8)));
    const auto never = target.expect();
    CHECK_EQ(answer(target.submit(request(prompt(1, 100), 8))), alone);
    prepared_request refused = request(prompt(2, 20), 4);
    refused.on_its_way = target.expect();
    refused.params.id_slot = 7;
    CHECK_THROWS(error, target.submit(std::move(refused)));
}
