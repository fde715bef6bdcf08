// The tree against a naive model: every sequence as a list of its cells.
#include "prefix_cache.h"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "cached_tokens.h"
#include "check.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

using tokens_t = std::vector<llama_token>;

int32_t everything(llama_seq_id) {
    return 1 << 30;
}

void append(prefix_cache & tree, llama_seq_id sequence, const tokens_t & tokens) {
    tree.append(sequence, tokens.data(), tokens.size());
}

prefix_cache::sequences set_of(const std::vector<size_t> & members) {
    prefix_cache::sequences set;
    for (const size_t each : members) {
        set.set(each);
    }
    return set;
}

struct naive_cell {
    llama_token token;
    int id;
};

// What llama.cpp's cells would hold.
class naive_cache {
  public:
    explicit naive_cache(size_t n) : cells_(n) {}

    std::vector<naive_cell> & of(llama_seq_id sequence) { return cells_[static_cast<size_t>(sequence)]; }

    void append(llama_seq_id sequence, const tokens_t & tokens) {
        for (const llama_token token : tokens) {
            of(sequence).push_back({token, next_++});
        }
    }

    size_t n_cells(const prefix_cache::sequences & set) const {
        std::set<int> ids;
        for (size_t i = 0; i < cells_.size(); ++i) {
            for (const naive_cell & cell : cells_[i]) {
                if (set.test(i)) {
                    ids.insert(cell.id);
                }
            }
        }
        return ids.size();
    }

    size_t n_held(llama_seq_id sequence, prefix_cache::sequences others) const {
        others.reset(static_cast<size_t>(sequence));
        std::set<int> ids;
        for (size_t i = 0; i < cells_.size(); ++i) {
            for (const naive_cell & cell : cells_[i]) {
                if (others.test(i)) {
                    ids.insert(cell.id);
                }
            }
        }
        const auto & own = cells_[static_cast<size_t>(sequence)];
        return static_cast<size_t>(
            std::count_if(own.begin(), own.end(), [&](const naive_cell & cell) { return ids.count(cell.id) > 0; }));
    }

    int32_t longest(const tokens_t & tokens, const std::vector<int32_t> & usable) const {
        size_t best = 0;
        for (size_t i = 0; i < cells_.size(); ++i) {
            size_t n = 0;
            while (n < tokens.size() && n < cells_[i].size() && cells_[i][n].token == tokens[n]) {
                ++n;
            }
            best = std::max(best, std::min(n, static_cast<size_t>(usable[i])));
        }
        return static_cast<int32_t>(best);
    }

  private:
    std::vector<std::vector<naive_cell>> cells_;
    int next_ = 0;
};

tokens_t random_tokens(random_source & random, uint32_t most) {
    tokens_t tokens;
    for (uint32_t n = random.below(most + 1); n > 0; --n) {
        tokens.push_back(static_cast<llama_token>(random.below(2)));
    }
    return tokens;
}

void check_equal(random_source & random, const prefix_cache & tree, naive_cache & naive, size_t n_sequences) {
    prefix_cache::sequences set;
    std::vector<int32_t> usable;
    for (size_t i = 0; i < n_sequences; ++i) {
        set.set(i, random.one_in(2));
        usable.push_back(static_cast<int32_t>(random.one_in(3) ? random.below(12) : 1000));
        CHECK_EQ(tree.size(static_cast<llama_seq_id>(i)), naive.of(static_cast<llama_seq_id>(i)).size());
    }
    CHECK_EQ(tree.n_cells(set), naive.n_cells(set));
    for (size_t i = 0; i < n_sequences; ++i) {
        const auto sequence = static_cast<llama_seq_id>(i);
        CHECK_EQ(tree.n_held(sequence, set), naive.n_held(sequence, set));
    }
    const tokens_t wanted = random_tokens(random, 30);
    const auto found = tree.find(wanted, [&](llama_seq_id id) { return usable[static_cast<size_t>(id)]; });
    CHECK_EQ(found.n, naive.longest(wanted, usable));
    if (found.n > 0) {
        // The sequence that it names has them.
        const auto & cells = naive.of(found.sequence);
        CHECK(found.n <= usable[static_cast<size_t>(found.sequence)]);
        for (size_t k = 0; k < static_cast<size_t>(found.n); ++k) {
            CHECK_EQ(cells.at(k).token, wanted[k]);
        }
    }
    CHECK(tree.n_nodes() <= 2 * n_sequences);
}

}  // namespace

TEST(what_was_shared_counts_once_and_what_was_computed_twice_counts_twice) {
    prefix_cache tree;
    append(tree, 0, {1, 2, 3, 4});
    tree.share(0, 1, 3);
    append(tree, 1, {9});
    append(tree, 2, {1, 2, 3});
    CHECK_EQ(tree.n_cells(set_of({0, 1})), 5u);
    CHECK_EQ(tree.n_cells(set_of({1})), 4u);
    CHECK_EQ(tree.n_cells(set_of({0, 1, 2})), 8u);
    CHECK_EQ(tree.n_held(0, set_of({0, 1, 2})), 3u);
    CHECK_EQ(tree.n_own(1, set_of({0})), 1u);
    CHECK_EQ(tree.n_held(2, set_of({0, 1})), 0u);
    CHECK_EQ(tree.find({1, 2, 3, 9, 9}, everything).n, 4);
    CHECK_EQ(tree.find({1, 2, 3, 9, 9}, everything).sequence, 1);
    CHECK_EQ(tree.find({7}, everything).sequence, -1);
    CHECK_EQ(tree.find({}, everything).n, 0);
}

TEST(an_owner_that_goes_leaves_its_cells_to_those_who_share_them) {
    prefix_cache tree;
    append(tree, 0, {1, 2, 3, 4});
    tree.share(0, 1, 4);
    tree.keep(0, 2);
    append(tree, 0, {3, 4});  // in new cells
    CHECK_EQ(tree.n_cells(set_of({0, 1})), 6u);
    tree.keep(0, 0);
    CHECK_EQ(tree.n_cells(set_of({0, 1})), 4u);
    CHECK_EQ(tree.n_own(1, set_of({0})), 4u);
    CHECK_EQ(tree.n_nodes(), 1u);
    tree.keep(1, 0);
    CHECK_EQ(tree.n_nodes(), 0u);
}

TEST(a_sequence_that_grows_alone_is_one_node) {
    prefix_cache tree;
    for (int i = 0; i < 1000; ++i) {
        append(tree, 5, {i});
    }
    CHECK_EQ(tree.n_nodes(), 1u);
    CHECK_EQ(tree.size(5), 1000u);
}

TEST(the_tree_says_what_a_list_of_cells_says) {
    constexpr size_t n_sequences = 7;
    for (uint32_t seed = 0; seed < 60; ++seed) {
        random_source random(seed);
        prefix_cache tree;
        naive_cache naive(n_sequences);
        for (int step = 0; step < 300; ++step) {
            const auto sequence = static_cast<llama_seq_id>(random.below(n_sequences));
            auto & cells = naive.of(sequence);
            switch (random.below(4)) {
                case 0:
                case 1: {
                    const tokens_t tokens = random_tokens(random, 8);
                    append(tree, sequence, tokens);
                    naive.append(sequence, tokens);
                    break;
                }
                case 2: {
                    const size_t n = random.below(static_cast<uint32_t>(cells.size() + 3));
                    tree.keep(sequence, n);
                    cells.resize(std::min(n, cells.size()), {});
                    break;
                }
                default: {
                    const auto from = static_cast<llama_seq_id>(random.below(n_sequences));
                    if (from == sequence) {
                        break;
                    }
                    const auto & source = naive.of(from);
                    const size_t n = random.below(static_cast<uint32_t>(source.size() + 1));
                    tree.keep(sequence, 0);
                    tree.share(from, sequence, n);
                    cells.assign(source.begin(), source.begin() + static_cast<std::ptrdiff_t>(n));
                    break;
                }
            }
            check_equal(random, tree, naive, n_sequences);
        }
    }
}

TEST(a_list_and_its_path_change_together) {
    prefix_cache tree;
    cached_tokens first;
    cached_tokens second;
    first.join(tree, 0);
    second.join(tree, 1);
    const tokens_t tokens = {1, 2, 3, 4, 5};
    first.append(tokens.begin(), tokens.end());
    second.share(first, 3);
    CHECK_EQ(first.n_shared(), 3u);
    CHECK_EQ(tree.size(1), 3u);
    second.assign(tokens.begin(), tokens.begin() + 2);
    CHECK_EQ(first.n_shared(), 0u);
    CHECK_EQ(tree.size(1), 2u);
    first.keep(9);
    CHECK_EQ(first.size(), 5u);
    first.keep(1);
    CHECK_EQ(tree.size(0), 1u);
}
