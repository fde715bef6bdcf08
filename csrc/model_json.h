// JSON that a model wrote: the arguments of its tool calls. It may be cut short, and nest as deep as an answer is long.
#pragma once

#include <optional>
#include <string>

#include "json.h"

namespace pyllama {

// Nothing when it is no JSON, or nests deeper than a request may.
std::optional<common_json> parse_model_json(const std::string & text);

}  // namespace pyllama
