// The plain fields of a request: numbers, switches and short lists, from one table. Used by request.cpp.
#pragma once

#include <cstdint>
#include <string>

#include "json.h"
#include "request.h"

namespace pyllama {

// The member `name` of an object; null when it is absent or null.
const common_json * find_field(const common_json & object, const char * name);

// Typed access; each throws error(invalid_request) naming `field`.
bool as_bool(const common_json & value, const std::string & field);
std::string as_string(const common_json & value, const std::string & field);
int64_t as_integer(const common_json & value, const std::string & field, int64_t min, int64_t max);
double as_number(const common_json & value, const std::string & field, double min, double max);
const common_json & as_array(const common_json & value, const std::string & field);
const common_json & as_object(const common_json & value, const std::string & field);

// Everything that goes into sampling, limits and stop conditions.
void read_plain_fields(const model & model, const common_json & body, chat_request & request);

}  // namespace pyllama
