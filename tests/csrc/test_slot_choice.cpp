// Which idle slot a request gets that finds its prompt in none of them.
#include <algorithm>
#include <vector>

#include "check.h"
#include "engine_facade.h"
#include "engine_fixture.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

// Four slots, with requests that run until they are cancelled.
class crowd {
  public:
    explicit crowd(bool unified, int32_t cache_mib = 0) : target(demo_model(), flags(unified, cache_mib)) {}

    // Starts a request and returns its slot's number.
    int32_t start(uint32_t seed, int n_choices = 1) { return start(prompt(seed, 40), n_choices); }
    int32_t start(const std::vector<llama_token> & tokens, int n_choices = 1) {
        const std::vector<int32_t> before = busy();
        handles.push_back(target.submit(controlled(tokens, 100000, n_choices)));
        wait_for_bytes(handles.back(), 1);
        for (const int32_t id : busy()) {
            if (std::find(before.begin(), before.end(), id) == before.end()) {
                return id;
            }
        }
        return -1;
    }

    // Starts n requests of one seed each, from 1 on, in the first slots.
    void fill(uint32_t n) {
        for (uint32_t i = 0; i < n; ++i) {
            CHECK_EQ(start(1 + i), static_cast<int32_t>(i));
        }
    }

    // Ends the nth of them.
    void end(size_t n) {
        target.cancel(handles[n].control);
        answer(handles[n]);
        target.slots();
    }

    void pause(size_t n) { CHECK(wait_for(post(target, *handles[n].control, {control_action::pause})).success); }

    std::vector<int32_t> busy() {
        std::vector<int32_t> found;
        for (const slot_info & each : target.slots()) {
            if (each.busy) {
                found.push_back(each.id);
            }
        }
        return found;
    }

    static server_params flags(bool unified, int32_t cache_mib) {
        server_params params = engine_params(4, 4 * 512, unified);
        params.common.cache_ram_mib = cache_mib;
        params.common.slot_save_path = ".";  // a slot can be erased
        return params;
    }

    engine target;
    std::vector<submitted> handles;
};

}  // namespace

TEST(in_streams_a_request_runs_beside_others) {
    crowd users(false);
    users.fill(3);
    users.end(1);
    CHECK_EQ(users.start(10), 1);  // slot 3 was never used, but would take a pass of its own
    users.end(0);
    users.end(3);
    CHECK_EQ(users.start(11), 3);  // beside slot 2; what the others have of the template's opening is too little
    CHECK_EQ(users.start(12), 1);
}

TEST(in_a_unified_cache_it_takes_one_that_was_never_used) {
    crowd users(true);
    users.fill(3);
    users.end(1);
    CHECK_EQ(users.start(10), 3);
}

TEST(in_streams_a_paused_request_is_no_neighbour) {
    crowd users(false);
    users.fill(4);
    users.pause(3);
    users.end(2);
    users.end(1);
    // Slot 2 has been idle for longer, but only slot 1 is beside one that decodes.
    CHECK_EQ(users.start(10), 1);
}

TEST(in_a_unified_cache_an_empty_slot_goes_before_one_that_was_idle_for_longer) {
    crowd users(true);
    users.fill(4);
    users.end(1);
    users.end(2);
    users.target.erase_slot(2);
    CHECK_EQ(users.start(10), 2);
}

TEST(of_slots_that_hold_as_much_of_a_prompt_it_takes_the_one_beside_others) {
    crowd users(false);
    for (const uint32_t seed : {1, 2, 1, 3}) {
        users.start(seed);
    }
    for (const size_t n : {0, 2, 1}) {
        users.end(n);
    }
    CHECK_EQ(users.start(1), 2);
}

TEST(in_streams_the_choices_of_a_prompt_run_side_by_side) {
    crowd users(false);
    users.start(1);
    users.start(2);
    users.end(0);
    CHECK_EQ(users.start(3), 0);
    users.end(2);
    users.end(1);
    users.start(4, 3);
    const std::vector<int32_t> busy = users.busy();
    CHECK_EQ(busy.size(), 3u);
    CHECK_EQ(busy.back() - busy.front(), 2);
}

// The fourth user comes again while only the first one is there.
int32_t come_again(crowd & users) {
    users.fill(4);
    for (const size_t n : {3, 2, 1}) {
        users.end(n);
    }
    return users.start(4);
}

TEST(who_was_there_gets_its_slot_again_wherever_that_is) {
    crowd users(false);
    CHECK_EQ(come_again(users), 3);
}

TEST(with_host_memory_it_gets_its_cache_in_a_slot_beside_others) {
    crowd users(false, 64);
    CHECK_EQ(come_again(users), 1);
    const slot_info there = users.target.slots()[1];
    CHECK(there.taken.from_host);
    CHECK_EQ(there.n_prompt_cached, 39);
}

TEST(what_is_little_of_a_long_cache_is_not_copied_for_that) {
    crowd users(false, 64);
    users.start(1);
    users.start(2);
    const std::vector<llama_token> longer = prompt(3, 400);
    CHECK_EQ(users.start(longer), 2);
    users.end(2);
    users.end(1);
    std::vector<llama_token> other(longer.begin(), longer.begin() + 60);
    const std::vector<llama_token> rest = prompt(4, 40);
    other.insert(other.end(), rest.begin(), rest.end());
    CHECK_EQ(users.start(other), 2);
}
