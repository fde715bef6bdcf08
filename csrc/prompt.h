// Request preparation: an OpenAI chat request's JSON to tokens, sampling parameters and a frame writer. Runs
// on the caller's thread, so that a bad template, schema or field raises before anything is sent. Pure with
// respect to the engine: it reads the model only.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "arrivals.h"
#include "common.h"
#include "frame_writer.h"
#include "lora.h"
#include "media.h"
#include "model.h"
#include "reasoning_params.h"

namespace pyllama {

// What the slot needs to generate.
struct generation_params {
    common_params_sampling sampling;  // with grammar, triggers, preserved tokens, logit bias, seed resolved
    int32_t n_predict = -1;           // most tokens to generate; -1 = until the context is full
    std::vector<std::string> stop;    // non-empty strings, the client's and the template's
    std::vector<std::string> template_stop;
    int32_t n_logprobs = -1;  // -1 = none wanted; otherwise how many alternatives per token (0-20)
    bool cache_prompt = true;
    // Prefixes are shared within one domain only: requests with the same cache_salt and, where keys are kept apart, of
    // the same key.
    std::string domain;
    uint32_t seed_offset = 0;  // of several choices of a prompt, the nth has the seed plus n
    int32_t id_slot = -1;      // a particular slot, or any
    int32_t priority = 0;      // in the queue: higher first
    // Prompts that take turns in one slot: the one that the first of them got, -1 before. Engine thread.
    std::shared_ptr<int32_t> shared_slot;
    int32_t n_reuse_most = std::numeric_limits<int32_t>::max();  // tokens that may come from the cache
    // A decision: the answer is the logits of these tokens behind the prompt. Empty for text.
    llama_tokens labels;
    int64_t t_max_predict_ms = -1;     // a time limit on generation, -1 = none
    bool special = false;              // render control tokens too
    bool timings_per_token = false;    // each piece carries the timings up to it
    bool return_progress = false;      // tell the stream how far the prompt is
    bool post_sampling_probs = false;  // logprobs of what the sampler chain left, not of the model's row
    int32_t n_indent = 0;              // least indentation of a line after the first; a line with less ends the answer
    int32_t n_keep = 0;                // of the prompt, when the context is shifted
    int32_t n_discard = 0;             // tokens that one shift drops, 0 = half of them
    int32_t n_cache_reuse = 0;  // least tokens of a cached chunk that is moved to where the prompt has it, 0 = none
    lora_set lora;              // null until submission: the server's
    reasoning_params reasoning;
};

enum class dialect {
    native,     // llama-server's own completion: raw completions only
    openai,     // server-sent events when the request streams, else one JSON body
    responses,  // OpenAI's Responses, and
    anthropic,  // Anthropic's Messages, in the same two ways: chats only
    deltas,     // newline-delimited JSON, one delta a line: the in-process API
    paddler,    // Paddler's tokens, one a line, of one answer
};

// Whose answers are streams, whatever the request says.
inline bool always_streams(dialect which) {
    return which == dialect::deltas || which == dialect::paddler;
}

struct embedding_results;

struct further_prompt {
    llama_tokens tokens;
    bool reasoning_open = false;  // it ends inside a reasoning block
    llama_tokens labels;          // instead of the first prompt's
    std::vector<media_span> media;
};

// What may be asked for in the queue: higher goes first.
struct priority_limits {
    static constexpr int32_t least = -10;
    static constexpr int32_t most = 10;
};

struct prepared_request {
    std::unique_ptr<arrival> on_its_way;          // to the engine that is to answer it
    std::string id;                               // "chatcmpl-...", "resp_...", "msg_..."
    std::shared_ptr<const pyllama::model> model;  // that it was prepared with
    std::string owner;                            // whose request it is: an API key, or anybody
    bool stream = false;
    bool background = false;                   // the answer is made, and kept, whether somebody reads it or not
    std::string receipt;                       // JSON that says so, to answer with before anything is generated
    int32_t sse_ping_interval = 30;            // seconds of silence before a keep-alive comment; -1 = none
    int32_t n_choices = 1;                     // answers to each prompt; those to one prompt take their slots together
    std::vector<further_prompt> more_prompts;  // answered beside the first one, in the same stream
    int32_t n_answers() const { return n_choices * static_cast<int32_t>(1 + more_prompts.size()); }
    std::vector<llama_token> tokens;
    std::vector<media_span> media;  // that the tokens below LLAMA_TOKEN_NULL stand for
    // A request for embeddings has these instead of tokens and parameters.
    std::vector<llama_tokens> inputs;
    std::vector<std::vector<media_span>> input_media;  // of each input; empty when none has any
    std::shared_ptr<embedding_results> embeddings;
    generation_params params;
    std::optional<int32_t> priority;  // that the client asks for
    std::unique_ptr<frame_writer> writer;
};

// What one request may take of the engine.
struct prompt_limits {
    int32_t n_ctx_slot = 0;  // n_ctx of a slot
    int32_t n_slots = 1;
    int32_t reasoning_budget_soft = 0;  // of requests that do not say
};

// body: the raw JSON of POST /v1/chat/completions, /v1/responses or /v1/messages, as the dialect says. Throws error:
// invalid_request with the field named, context_exceeded with both counts.
prepared_request prepare_chat(const std::shared_ptr<const model> & model, std::string_view body, dialect dialect,
                              const prompt_limits & limits);

// body: the raw JSON of POST /completion or POST /v1/completions. Throws as prepare_chat.
prepared_request prepare_completion(const std::shared_ptr<const model> & model, std::string_view body, dialect dialect,
                                    const prompt_limits & limits);

// body: the raw JSON of POST /infill; the answer is llama-server's own completion. Throws as prepare_chat, and
// unsupported.
prepared_request prepare_infill(const std::shared_ptr<const model> & model, std::string_view body,
                                const prompt_limits & limits);

// How many tokens the prompt of such a body has. Throws error(invalid_request).
size_t count_chat_tokens(const model & model, std::string_view body, dialect dialect);

// The text that the chat template makes of such a body. Throws error(invalid_request).
std::string render_chat(const model & model, std::string_view body, dialect dialect = dialect::openai);

}  // namespace pyllama
