// The budget of host memory: what each part takes, and the shares that give back what they took.
#include "byte_budget.h"

#include <utility>
#include <vector>

#include "check.h"
#include "shared_bytes.h"

using namespace pyllama;

TEST(each_part_says_what_it_takes) {
    byte_budget budget(0, 100);
    budget.charge(memory_part::streams, 30);
    budget.charge(memory_part::parked, 20);
    CHECK_EQ(budget.used(memory_part::streams), 30);
    CHECK_EQ(budget.used(memory_part::parked), 20);
    CHECK_EQ(budget.used(), 50);
    CHECK(budget.fits(50));
    CHECK(!budget.fits(51));
    budget.charge(memory_part::checkpoints, 51);
    CHECK(budget.over());
    budget.release(memory_part::checkpoints, 1);
    CHECK(!budget.over());
}

TEST(streams_have_a_limit_of_their_own_and_take_what_is_below_it) {
    byte_budget budget(100, 1000);
    budget.charge(memory_part::prefixes, 1000);
    CHECK(budget.make_stream_room(100));
    budget.charge(memory_part::streams, 100);
    CHECK(!budget.make_stream_room(1));
    CHECK(budget.over());
    // The whole limits them too.
    byte_budget small(100, 50);
    CHECK(small.make_stream_room(50));
    CHECK(!small.make_stream_room(51));
}

TEST(without_a_limit_everything_fits) {
    byte_budget budget(0);
    budget.charge(memory_part::parked, SIZE_MAX / 2);
    CHECK(budget.fits(1));
    CHECK(!budget.over());
    CHECK(budget.make_stream_room(SIZE_MAX));
}

TEST(a_share_is_given_back_once_wherever_it_went) {
    const auto budget = std::make_shared<byte_budget>(0, 100);
    std::vector<budget_share> shares;
    for (size_t n = 1; n <= 8; ++n) {
        shares.emplace_back(budget, memory_part::prefixes, n);  // grows, and moves them
    }
    CHECK_EQ(budget->used(), 36);
    shares[7].move_to(memory_part::parked);
    shares[7].move_to(memory_part::parked);
    CHECK_EQ(budget->used(memory_part::parked), 8);
    CHECK_EQ(budget->used(memory_part::prefixes), 28);
    shares[0] = std::move(shares[7]);
    shares.pop_back();
    CHECK_EQ(budget->used(), 35);
    CHECK_EQ(budget->used(memory_part::parked), 8);
    shares.clear();
    CHECK_EQ(budget->used(), 0);
    CHECK_EQ(budget->used(memory_part::parked), 0);
}

TEST(shared_bytes_are_charged_once) {
    const auto budget = std::make_shared<byte_budget>(0);
    shared_bytes first(std::vector<uint8_t>(10));
    first.charge(budget, memory_part::checkpoints);
    {
        const std::vector<shared_bytes> copies(3, first);
        CHECK(copies[2].data() == first.data());
        first = shared_bytes();
        CHECK_EQ(budget->used(memory_part::checkpoints), 10);
    }
    CHECK_EQ(budget->used(), 0);
}
