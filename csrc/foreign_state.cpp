#include "foreign_state.h"

#include "bytes.h"
#include "errors.h"

namespace pyllama {

void refuse_file(const std::string & why) {
    throw bad_request("Unable to restore slot: " + why, "filename");
}

namespace {

// The rows of one tensor kind in a foreign state: number format, row size, rows.
void skip_rows(byte_reader & in, uint64_t n_cells) {
    in.get<int32_t>();
    const auto row_size = in.get<uint64_t>();
    if (row_size > UINT32_MAX) {
        throw end_of_file();
    }
    in.skip(row_size * n_cells);
}

}  // namespace

size_t check_foreign_state(const std::vector<uint8_t> & file, size_t begin, int32_t n_tokens) {
    byte_reader in(file, begin, file.size());
    const auto n_streams = in.get<uint32_t>();
    std::vector<bool> seen(static_cast<size_t>(n_tokens));
    int32_t n_seen = 0;
    for (uint32_t stream = 0; stream < n_streams; ++stream) {
        const auto n_cells = in.get<uint32_t>();
        if (n_cells == 0) {
            continue;
        }
        for (uint32_t i = 0; i < n_cells; ++i) {
            const auto position = in.get<int32_t>();
            const auto n_sequences = in.get<uint32_t>();
            in.get<int32_t>();
            if (n_sequences != 1 || position < 0 || position >= n_tokens || seen[static_cast<size_t>(position)]) {
                refuse_file("its cells are not those of its tokens");
            }
            seen[static_cast<size_t>(position)] = true;
            ++n_seen;
        }
        const auto transposed = in.get<uint32_t>();
        const auto n_layer = in.get<uint32_t>();
        in.skip(2 * sizeof(uint32_t));
        for (uint32_t i = 0; i < n_layer; ++i) {
            skip_rows(in, n_cells);
        }
        for (uint32_t i = 0; i < n_layer; ++i) {
            if (transposed == 0) {
                skip_rows(in, n_cells);
                continue;
            }
            in.get<int32_t>();
            const uint64_t element_size = in.get<uint32_t>();
            const uint64_t n_rows = in.get<uint32_t>();
            if (element_size > 64 || n_rows > (1u << 24)) {
                throw end_of_file();
            }
            in.skip(n_rows * element_size * n_cells);
        }
    }
    if (n_seen != n_tokens) {
        refuse_file("its cells are not those of its tokens");
    }
    return in.at();
}

}  // namespace pyllama
