// What the chat dialects share in reading their bodies: OpenAI's chat, Responses, Anthropic's messages. `field` is the
// name of a value in the client's own body. Every function throws error(invalid_request). Used by request*.cpp.
#pragma once

#include "request.h"
#include "request_fields.h"

namespace pyllama {

// With the flags' defaults, before anything was read.
chat_request new_chat_request(const model & model);

common_chat_msg_content_part text_part(std::string text);

// Throws for a part of a type that is sound or film in one of the dialects, or an image that stands where none may be.
void refuse_media(const std::string & type, const std::string & field);

// The part that stands for an image, which is added to the request.
common_chat_msg_content_part image_part(const model & model, media_file file, chat_request & request);

// The text of a call's arguments, which may be an object too.
std::string read_arguments(const common_json & arguments, const std::string & field);

// The body's `tools`, no more than are allowed; null when there are none.
const common_json * find_tools(const common_json & body);

// Adds a tool that is described by its name, description and a schema, the member `parameters`.
void add_function(const common_json & function, const std::string & field, const char * parameters,
                  chat_request & request);

// auto, none or required; or the one function of this name. After the tools.
void choose_tools(const std::string & choice, chat_request & request);
void choose_function(const std::string & name, chat_request & request);

// `parallel_tool_calls`, or what the template can do.
void read_parallel_calls(const model & model, const common_json & body, chat_request & request);

// The rules on schema, grammar and tools together. After all of them.
void check_constraint(chat_request & request);

// How the reasoning is told apart, and whether the template makes the model think. `effort`: a level, may be null.
void read_thinking(const model & model, const common_json & body, const common_json * effort,
                   const std::string & effort_field, chat_request & request);
void disable_thinking(chat_request & request);

}  // namespace pyllama
