#include "model_json.h"

#include "request.h"

namespace pyllama {

std::optional<common_json> parse_model_json(const std::string & text) {
    try {
        check_json_depth(text, request_limits::json_depth, "");
        return common_json::parse(text);
    } catch (const std::exception &) {
        return std::nullopt;
    }
}

}  // namespace pyllama
