// Server-sent events as bytes. Pure functions: any thread. The data must hold no line break, as JSON written by
// json_text.h never does.
#pragma once

#include <string>
#include <string_view>

namespace pyllama::sse {

inline constexpr std::string_view event_prefix = "event: ";
inline constexpr std::string_view data_prefix = "data: ";
inline constexpr std::string_view event_end = "\n\n";
inline constexpr std::string_view done = "data: [DONE]\n\n";

// data: <data>
std::string event(std::string_view data);

// event: <name>
// data: <data>
std::string named_event(std::string_view name, std::string_view data);

// data: {"error":<error object>}
std::string error_event(std::string_view error_object);

}  // namespace pyllama::sse
