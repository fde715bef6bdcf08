// The server's flags as the Python side needs them. Pure; any thread.
#pragma once

#include <string>

#include "server_params.h"

namespace pyllama {

// A JSON object, UTF-8.
std::string params_json(const server_params & params);

// known_flags() as a JSON array of objects.
std::string flags_json();

// Where the hub is, and where llama.cpp's tools keep what comes from it: a JSON object.
std::string hub_json();

// Where no --model was given. The file's stem becomes the alias, unless there is one or the model has a name.
void set_model_path(server_params & params, const std::string & path);

// Uses this projector, for when a flag names one by a hub or a URL.
void set_projector_path(server_params & params, const std::string & path);

}  // namespace pyllama
