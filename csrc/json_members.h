// A JSON object taken apart into its members' own text, without a tree: so that an envelope costs no more than a look
// at each byte, and a large member is decoded once, by whoever it is for. Pure: any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pyllama {

// (name, value) as they stand in `text`: the name between its quotes, escapes and all; the value one JSON value by its
// brackets and quotes, for its reader to validate. Throws error(invalid_request) when `text` is no object of at most
// n_most members.
std::vector<std::pair<std::string, std::string>> json_members(std::string_view text, size_t n_most);

}  // namespace pyllama
