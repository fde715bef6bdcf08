// A chat request's JSON, decoded and validated: every field is checked for type and range, and an error names the
// field. What is unknown is ignored, null means absent. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chat.h"
#include "common.h"
#include "lora.h"
#include "media.h"
#include "model.h"
#include "reasoning_params.h"

namespace pyllama {

struct request_limits {
    static constexpr int json_depth = 128;          // nesting of the body, of a tool call's arguments
    static constexpr size_t n_json_members = 4096;  // of one object in them
    static constexpr size_t n_stop = 64;            // stop strings
    static constexpr size_t stop_bytes = 4096;      // of one stop string
    static constexpr size_t n_tools = 512;
    static constexpr size_t n_prompts = 256;     // of one raw completion
    static constexpr size_t n_inputs = 2048;     // of one request for embeddings or ranks
    static constexpr size_t n_floats = 1 << 24;  // of an answer with a row for each token
    static constexpr size_t n_response_fields = 64;
    static constexpr size_t schema_bytes = 1 << 18;     // of one JSON schema
    static constexpr size_t n_schema_properties = 512;  // of one object
    static constexpr size_t n_schema_refs = 256;
    static constexpr size_t user_grammar_bytes = 1 << 18;
    static constexpr size_t cache_salt_bytes = 256;
    static constexpr size_t n_reasoning_tags = 16;
    static constexpr size_t reasoning_tag_bytes = 256;
    static constexpr size_t reasoning_message_bytes = 1 << 16;
    static constexpr size_t injected_bytes = 1 << 16;
    static constexpr int n_logprobs = 20;  // alternatives of a token in OpenAI's dialects
    static constexpr int n_probs = 128;    // in llama-server's
};

// What every request that generates has.
struct generation_request {
    common_params_sampling sampling;  // defaults of the model and the flags, then the request's; seed as given
    std::string json_schema;          // from response_format or json_schema, empty when there is none
    std::string schema_field;         // the field it came from, for errors
    std::string grammar;              // GBNF text of the client
    bool stream = false;
    bool include_usage = false;
    bool echo = false;  // repeat the continued message's text
    bool cache_prompt = true;
    std::string cache_salt;
    bool timings_per_token = false;
    bool return_progress = false;
    int32_t sse_ping_interval = 30;  // seconds of silence before a keep-alive comment; -1 = none
    bool verbose = false;            // llama-server's "__verbose" in the answer
    bool random_seed = true;
    int32_t n_predict = -1;
    int32_t n_logprobs = -1;
    int32_t id_slot = -1;
    std::optional<int32_t> priority;  // in the queue
    int32_t n_keep = 0;
    int32_t n_discard = 0;
    int32_t n_cache_reuse = 0;
    lora_set lora;  // null: the server's
    int32_t n_choices = 1;
    std::string choices_field = "n";  // where their number came from, for errors
    int64_t t_max_predict_ms = -1;
    std::vector<std::string> stop;
    reasoning_wishes reasoning;
    pyllama::reasoning_tags reasoning_tags;  // the client's own
};

// Where a message stands in the client's body: for errors.
struct message_fields {
    std::string item;
    std::string content;
    std::string reasoning;
    std::string calls;
};

struct chat_request : generation_request {
    common_chat_templates_inputs inputs;        // messages, tools, template arguments
    std::string messages_field = "messages";    // what holds the conversation in this dialect
    std::vector<message_fields> fields;         // of each message
    std::vector<media_file> media;              // in the order of their markers in the messages
    std::vector<std::string> parameter_fields;  // of each tool
    std::string repeated;                       // members of the body that the answer repeats, as JSON
    bool background = false;                    // Responses: the answer is made whether somebody reads it or not
    bool parse_tool_calls = false;              // Paddler: tell them whole as well
};

// Throws error(invalid_request).
chat_request parse_chat_request(const model & model, std::string_view body);

// Throws when brackets nest deeper than `limit`, or an object has too many members. Linear, no recursion, so it may see
// any text.
void check_json_depth(std::string_view json, int limit, const std::string & field);

// Throws when a grammar is too large for llama.cpp's recursive parser, or does not compile; `field` is named.
void check_grammar(const model & model, const std::string & grammar, const std::string & field);

// Throws when converting the schema could exhaust the stack or blow up.
void check_schema(const common_json & schema, const std::string & field);

}  // namespace pyllama
