#include "request_json.h"

#include <cmath>

#include "common.h"
#include "errors.h"
#include "json_text.h"
#include "request.h"

namespace pyllama {

namespace {

std::string shown(double value) {
    if (value == std::floor(value) && std::abs(value) < 1e15) {
        return std::to_string(static_cast<int64_t>(value));
    }
    return string_format("%g", value);
}

[[noreturn]] void out_of_range(const std::string & field, double value, double min, double max) {
    throw bad_request(
        "'" + field + "' must be between " + shown(min) + " and " + shown(max) + ", but is " + shown(value), field);
}

}  // namespace

void wrong_type(const std::string & field, const char * expected) {
    throw bad_request("'" + field + "' must be " + expected, field);
}

std::string indexed(const std::string & field, size_t i) {
    return field + "[" + std::to_string(i) + "]";
}

const common_json & required(const common_json & object, const char * name, std::string_view within) {
    const common_json * value = find_field(object, name);
    if (value == nullptr) {
        const std::string field = within.empty() ? name : std::string(within) + "." + name;
        throw bad_request("'" + field + "' is required", field);
    }
    return *value;
}

common_json parse_body(std::string_view body) {
    const size_t n_valid = valid_utf8_prefix(body);
    if (n_valid != body.size()) {
        throw bad_request("the request body is not valid UTF-8 (at byte " + std::to_string(n_valid) + ")");
    }
    check_json_depth(body, request_limits::json_depth, "");
    common_json parsed;
    try {
        parsed = common_json::parse(std::string(body));
    } catch (const common_json_error & e) {
        throw bad_request(std::string("the request body is not valid JSON: ") + e.what());
    }
    if (!parsed.is_object()) {
        throw bad_request("the request body must be a JSON object");
    }
    return parsed;
}

const common_json * find_field(const common_json & object, const char * name) {
    if (!object.contains(name)) {
        return nullptr;
    }
    const common_json & value = object.at(name);
    return value.is_null() ? nullptr : &value;
}

bool as_bool(const common_json & value, const std::string & field) {
    if (!value.is_boolean()) {
        wrong_type(field, "true or false");
    }
    return value.get<bool>();
}

std::string as_string(const common_json & value, const std::string & field) {
    if (!value.is_string()) {
        wrong_type(field, "a string");
    }
    return value.get<std::string>();
}

double as_number(const common_json & value, const std::string & field, double min, double max) {
    if (!value.is_number()) {
        wrong_type(field, "a number");
    }
    const auto number = value.get<double>();
    if (!(number >= min && number <= max)) {
        out_of_range(field, number, min, max);
    }
    return number;
}

int64_t as_integer(const common_json & value, const std::string & field, int64_t min, int64_t max) {
    if (!value.is_number()) {
        wrong_type(field, "an integer");
    }
    // Through double: exact for all the ranges in use, and nothing larger can wrap around.
    const auto number = value.get<double>();
    if (number != std::floor(number)) {
        wrong_type(field, "an integer");
    }
    if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max))) {
        out_of_range(field, number, static_cast<double>(min), static_cast<double>(max));
    }
    return static_cast<int64_t>(number);
}

const common_json & as_array(const common_json & value, std::string_view field) {
    if (!value.is_array()) {
        wrong_type(std::string(field), "a list");
    }
    return value;
}

const common_json & as_object(const common_json & value, std::string_view field) {
    if (!value.is_object()) {
        wrong_type(std::string(field), "an object");
    }
    return value;
}

}  // namespace pyllama
