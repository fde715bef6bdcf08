#include "sse.h"

namespace pyllama::sse {

std::string event(std::string_view data) {
    std::string out;
    out.reserve(data_prefix.size() + data.size() + event_end.size());
    out.append(data_prefix).append(data).append(event_end);
    return out;
}

std::string named_event(std::string_view name, std::string_view data) {
    std::string out(event_prefix);
    out.append(name).append("\n").append(event(data));
    return out;
}

std::string error_event(std::string_view error_object) {
    std::string data = "{\"error\":";
    data.append(error_object).append("}");
    return event(data);
}

}  // namespace pyllama::sse
