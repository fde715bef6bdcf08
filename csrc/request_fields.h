// The plain fields of a request: numbers, switches and short lists, from one table. Used by request*.cpp.
#pragma once

#include "request.h"
#include "request_json.h"

namespace pyllama {

// The logprobs of OpenAI's chat: a switch, and how many alternatives.
void read_chat_logprobs(const common_json & body, generation_request & request);

// `json_schema` or `grammar`.
void read_constraint(const common_json & body, generation_request & request);
void take_schema(const common_json & schema, const std::string & field, generation_request & request);

// The reasoning budget's message and tags, and its defaults. After the table's fields.
void read_reasoning(const common_params & params, const common_json & body, generation_request & request);

// What may change while a request runs: the fields of sampling, limits and stop strings. Leaves alone what is absent.
// Throws for a member that is none of these, and when there is nothing to change; "id", "action", "choice" and "model"
// belong to the control itself.
void read_changes(const model & model, const common_json & body, generation_request & request);

// Everything else that goes into sampling, limits and stop conditions.
void read_plain_fields(const model & model, const common_json & body, generation_request & request);

}  // namespace pyllama
