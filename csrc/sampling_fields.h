// The fields of sampling and stop strings that are more than a number. Used by request*.cpp.
#pragma once

#include "request.h"
#include "request_json.h"

namespace pyllama {

void read_seed(const common_json & body, generation_request & request);
void read_stop(const model & model, const common_json & body, generation_request & request);
// A stop string or a list of them; nothing of what was there before stays.
void take_stop(const common_json & value, const std::string & field, generation_request & request);
void read_logit_bias(const model & model, const common_json & body, generation_request & request);
void read_samplers(const common_json & body, generation_request & request);
void read_sequence_breakers(const common_json & body, generation_request & request);

}  // namespace pyllama
