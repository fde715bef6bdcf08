#include "model_json.h"

#include "check.h"
#include "request.h"

using namespace pyllama;

TEST(arguments_are_parsed_when_they_are_whole) {
    CHECK(parse_model_json(R"({"city":"Rome"})")->is_object());
    CHECK(parse_model_json("[1, 2]"));
    CHECK(!parse_model_json(R"({"city":"Ro)"));
    CHECK(!parse_model_json(""));
}

TEST(a_model_that_nests_without_end_costs_no_stack) {
    const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
    CHECK(parse_model_json(nested(static_cast<size_t>(request_limits::json_depth))));
    CHECK(!parse_model_json(nested(static_cast<size_t>(request_limits::json_depth) + 1)));
    CHECK(!parse_model_json(nested(1000000)));
}
