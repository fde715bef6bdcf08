// A saved state that another program wrote, without our proof that it is whole. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pyllama {

// Throws error(invalid_request): a saved slot cannot be restored.
[[noreturn]] void refuse_file(const std::string & why);

// Walks the cells of such a state, of plain attention, which begins at `begin` and must hold each of n_tokens once.
// Returns where it ends. Throws error(invalid_request), and end_of_file.
size_t check_foreign_state(const std::vector<uint8_t> & file, size_t begin, int32_t n_tokens);

}  // namespace pyllama
