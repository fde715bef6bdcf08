// The cells of a state that another program wrote: each of its tokens once, and nothing else.
#include "foreign_state.h"

#include "bytes.h"
#include "check.h"
#include "errors.h"

using namespace pyllama;

namespace {

struct cell {
    int32_t position;
    uint32_t n_sequences = 1;
};

// One stream of one layer, whose keys and values are rows of 8 bytes.
std::vector<uint8_t> state_of(const std::vector<cell> & cells) {
    byte_writer out;
    out.put(uint32_t{1});
    out.put(static_cast<uint32_t>(cells.size()));
    for (const cell & each : cells) {
        out.put(each.position);
        out.put(each.n_sequences);
        out.put(int32_t{0});
    }
    for (const uint32_t number : {0u, 1u, 0u, 0u}) {  // not transposed, one layer, and two that are not looked at
        out.put(number);
    }
    const std::vector<uint8_t> rows(8 * cells.size());
    for (int i = 0; i < 2; ++i) {
        out.put(int32_t{0});
        out.put(uint64_t{8});
        out.put_bytes(rows.data(), rows.size());
    }
    return out.take();
}

bool is_refused(const std::vector<cell> & cells, int32_t n_tokens) {
    try {
        check_foreign_state(state_of(cells), 0, n_tokens);
        return false;
    } catch (const error & refused) {
        CHECK(refused.kind == error_kind::invalid_request);
        return true;
    }
}

}  // namespace

TEST(each_token_has_one_cell) {
    const std::vector<uint8_t> state = state_of({{2}, {0}, {1}});
    CHECK_EQ(check_foreign_state(state, 0, 3), state.size());
    CHECK(!is_refused({{0}, {1}}, 2));
    CHECK(is_refused({{0}, {1}}, 3));
    CHECK(is_refused({{0}, {1}, {1}}, 3));
    CHECK(is_refused({{0}, {1}, {3}}, 3));
    CHECK(is_refused({{0}, {1}, {-1}}, 3));
    CHECK(is_refused({{0}, {1, 2}, {2}}, 3));
}

TEST(a_cut_state_has_no_end) {
    const std::vector<uint8_t> state = state_of({{0}, {1}});
    for (size_t n = 0; n < state.size(); ++n) {
        try {
            check_foreign_state({state.begin(), state.begin() + static_cast<std::ptrdiff_t>(n)}, 0, 2);
            CHECK(false);
        } catch (const end_of_file &) {
        }
    }
}
