// Sessions that are kept, and the budget that all of them share.
#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "stream.h"

using namespace pyllama;
using pyllama_test::random_source;

namespace {

constexpr size_t n_all = SIZE_MAX;

std::shared_ptr<stream_session> make_session(const std::shared_ptr<byte_budget> & budget, size_t capacity = 1u << 20) {
    return std::make_shared<stream_session>(stream_limits{capacity, budget});
}

std::shared_ptr<stream_session> make_ended(const std::shared_ptr<byte_budget> & budget, size_t n_bytes) {
    auto session = make_session(budget);
    session->keep(0);
    session->append(std::string(n_bytes, 'e'));
    session->finish(std::nullopt);
    return session;
}

}  // namespace

TEST(the_offset_behind_an_event) {
    stream_session session(8);
    CHECK(!session.offset_after(0));
    session.append("aaaa");
    session.append("bb");
    CHECK_EQ(*session.offset_after(0), 4);
    CHECK_EQ(*session.offset_after(1), 6);
    CHECK(!session.offset_after(2));
    CHECK(!session.offset_after(UINT64_MAX));
    session.append("cccccc");
    session.append("d");
    CHECK_EQ(*session.offset_after(2), 12);
    CHECK_EQ(*session.offset_after(1), 6);
    CHECK(session.read(*session.offset_after(0), n_all).lost);
    CHECK_EQ(session.read(*session.offset_after(2), n_all).slice.text(), "d");
}

TEST(ended_sessions_go_before_anything_else_and_the_oldest_first) {
    const auto budget = std::make_shared<byte_budget>(130'000);
    const auto first = make_ended(budget, 30'000);
    const auto second = make_ended(budget, 30'000);
    const auto live = make_session(budget);
    live->keep(0);
    live->append(std::string(30'000, 'l'));
    CHECK(!first->evicted());
    live->append(std::string(30'000, 'm'));
    CHECK(first->evicted());
    CHECK(!second->evicted());
    CHECK_EQ(budget->n_evicted(), 1);
    CHECK(first->read(0, n_all).lost);
    CHECK(first->read(first->end_offset(), n_all).finished);
    CHECK_EQ(live->read(0, n_all).slice.n_bytes(), 60'000);
    CHECK_EQ(second->read(0, n_all).slice.n_bytes(), 30'000);
}

TEST(a_session_that_was_forgotten_is_not_evicted) {
    const auto budget = std::make_shared<byte_budget>(50'000);
    make_ended(budget, 30'000);
    CHECK_EQ(budget->used(), 0);
    const auto kept = make_ended(budget, 30'000);
    const auto live = make_session(budget);
    live->append(std::string(30'000, 'l'));
    CHECK(kept->evicted());
    CHECK_EQ(budget->n_evicted(), 1);
}

TEST(a_kept_session_drops_its_oldest_bytes_where_the_budget_is_used_up) {
    const auto budget = std::make_shared<byte_budget>(200'000);
    const auto plain = make_session(budget);
    const auto kept = make_session(budget);
    kept->keep(0);
    for (int i = 0; i < 2000; i++) {
        plain->append(std::string(100, 'p'));
        kept->append(std::string(100, 'k'));
    }
    CHECK_EQ(plain->read(0, n_all).slice.n_bytes(), 200'000);  // who is read once keeps all there is room for
    const read_result lost = kept->read(0, n_all);
    CHECK(lost.lost);
    const size_t n_left = static_cast<size_t>(lost.end_offset - lost.first_offset);
    CHECK(n_left > 30'000);  // what every live session may have
    CHECK(n_left < 100'000);
    CHECK_EQ(kept->read(lost.first_offset, n_all).slice.text(), std::string(n_left, 'k'));
}

TEST(what_the_keeper_needs_is_charged_too) {
    const auto budget = std::make_shared<byte_budget>(0);
    {
        const auto session = make_session(budget);
        session->keep(5000);
        session->keep(5000);
        CHECK_EQ(budget->used(), 5000);
    }
    CHECK_EQ(budget->used(), 0);
}

TEST(a_session_that_is_kept_after_its_end_may_be_evicted) {
    const auto budget = std::make_shared<byte_budget>(10'000);
    const auto session = make_session(budget);
    session->append(std::string(5000, 'a'));
    session->finish(std::nullopt);
    session->keep(0);
    CHECK(!budget->make_stream_room(9000) || session->evicted());
    CHECK(session->evicted());
}

TEST(sessions_equal_their_model_under_a_budget) {
    for (uint32_t seed = 0; seed < 40; seed++) {
        random_source random(seed);
        const auto budget = std::make_shared<byte_budget>(40'000 + random.below(200'000));
        struct entry {
            std::shared_ptr<stream_session> session;
            std::string all;
            uint64_t offset = 0;
            bool finished = false;
        };
        std::vector<entry> entries;
        for (int step = 0; step < 3000; step++) {
            if (entries.size() < 2 || (entries.size() < 12 && random.one_in(50))) {
                entries.push_back({make_session(budget, 20'000 + random.below(80'000)), {}, 0, false});
                if (!random.one_in(4)) {
                    entries.back().session->keep(random.below(500));
                }
            }
            entry & chosen = entries[random.below(static_cast<uint32_t>(entries.size()))];
            const uint32_t action = random.below(100);
            if (action < 80 && !chosen.finished) {
                const std::string event(1 + random.below(random.one_in(30) ? 20'000 : 400),
                                        static_cast<char>('a' + step % 26));
                chosen.session->append(event);
                chosen.all += event;
            } else if (action < 97) {
                const read_result got = chosen.session->read(chosen.offset, random.below(5000), true);
                CHECK_EQ(got.end_offset, chosen.all.size());
                if (!got.lost) {
                    const std::string text = got.slice.text();
                    CHECK_EQ(text, chosen.all.substr(static_cast<size_t>(chosen.offset), text.size()));
                    CHECK_EQ(text.empty(), chosen.offset == chosen.all.size());
                }
                chosen.offset = got.next_offset;
                CHECK_EQ(got.finished, chosen.finished && chosen.offset == chosen.all.size());
            } else if (action < 99) {
                chosen.session->finish(std::nullopt);
                chosen.finished = true;
            } else {
                entries.erase(entries.begin() + (&chosen - entries.data()));
            }
        }
        entries.clear();
        CHECK_EQ(budget->used(), 0);
    }
}

TEST(readers_and_evictions_beside_the_producer) {
    const auto budget = std::make_shared<byte_budget>(300'000);
    const auto live = make_session(budget);
    live->keep(0);
    std::vector<std::shared_ptr<stream_session>> ended;
    for (int i = 0; i < 8; i++) {
        ended.push_back(make_ended(budget, 30'000));
    }
    constexpr int n_events = 20'000;
    std::vector<std::thread> readers;
    std::vector<std::string> wrong(3);
    for (std::string & problem : wrong) {
        readers.emplace_back([&] {
            uint64_t offset = 0;
            for (bool finished = false; !finished;) {
                const read_result got = live->read(offset, 4096);
                const std::string text = got.slice.text();
                for (size_t i = 0; i < text.size(); i++) {
                    if (text[i] != static_cast<char>('a' + (offset + i) / 50 % 26)) {
                        problem = "byte " + std::to_string(offset + i);
                    }
                }
                offset = got.next_offset;
                finished = got.finished;
                for (const auto & each : ended) {
                    each->read(0, 100);
                }
            }
        });
    }
    for (int i = 0; i < n_events; i++) {
        live->append(std::string(50, static_cast<char>('a' + i % 26)));
    }
    live->finish(std::nullopt);
    for (std::thread & reader : readers) {
        reader.join();
    }
    for (const std::string & problem : wrong) {
        CHECK_EQ(problem, "");
    }
    CHECK(std::all_of(ended.begin(), ended.end(), [](const auto & each) { return each->evicted(); }));
}
