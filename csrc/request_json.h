// A request's JSON and typed access to its members; errors name the field. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "json.h"

namespace pyllama {

// The body as an object, within the limits of request.h. Throws error(invalid_request).
common_json parse_body(std::string_view body);

// "field[i]".
std::string indexed(const std::string & field, size_t i);

// The member `name` of an object; null when it is absent or null.
const common_json * find_field(const common_json & object, const char * name);

// Typed access; each throws error(invalid_request) naming `field`.
bool as_bool(const common_json & value, const std::string & field);
std::string as_string(const common_json & value, const std::string & field);
int64_t as_integer(const common_json & value, const std::string & field, int64_t min, int64_t max);
double as_number(const common_json & value, const std::string & field, double min, double max);
const common_json & as_array(const common_json & value, std::string_view field);
const common_json & as_object(const common_json & value, std::string_view field);

// The member of an object that is named `within`, which is empty for the body. Throws when there is none.
const common_json & required(const common_json & object, const char * name, std::string_view within);

// Throws error(invalid_request): "'field' must be <expected>".
[[noreturn]] void wrong_type(const std::string & field, const char * expected);

}  // namespace pyllama
