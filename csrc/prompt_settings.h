// What the preparation of every kind of request shares: limits, sampling parameters, output constraints. Pure; any
// thread.
#pragma once

#include <cstdint>
#include <string>

#include "prompt.h"
#include "request.h"

namespace pyllama {

// Throws, naming the field, when the JSON schema cannot be turned into a grammar. An empty one can.
void require_compilable(const std::string & schema, const std::string & field);

// Throws for a text that is far too long to tokenise, with the least number of tokens it could have.
void check_size(const model & model, const std::string & text, int32_t n_ctx);

// The samplers allocate what they are told to remember, and no more than a context can be remembered.
void limit_memory(common_params_sampling & sampling, int32_t n_ctx_slot);

// Throws, naming the field, when there are more choices than slots.
void check_choices(const generation_request & request, const prompt_limits & limits);

// Throws, naming the field, when a dialect that has no place for several answers is asked for them.
void require_one_answer(dialect dialect, int32_t n_answers, const std::string & field);

// Moves the request's fields into the slot's parameters. `streams`: the client reads while it is generated.
void take_settings(const model & model, generation_request & request, const prompt_limits & limits, bool streams,
                   generation_params & params);

// Sets the grammar of the request's own schema or GBNF text, if it has one; returns the field it came from.
std::string use_constraint(const generation_request & request, common_params_sampling & sampling);

}  // namespace pyllama
