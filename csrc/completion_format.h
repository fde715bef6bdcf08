// What the dialects of raw completions share: what they know before the first token, what they collect of a choice,
// and their JSON fragments. As frame_writer: one thread at a time.
#pragma once

#include <string>
#include <vector>

#include "answer_format.h"
#include "prompt.h"
#include "request.h"

namespace pyllama {

struct completion_prompt {
    int32_t n_tokens = 0;
    std::string text;  // native
};

struct completion_format : answer_format {
    std::vector<completion_prompt> prompts;    // each has as many answers as the others, which are numbered through
    size_t n_choices = 1;                      // answers of all prompts
    std::string settings;                      // native: a JSON object
    std::vector<std::string> response_fields;  // native: empty = all
    bool return_tokens = false;                // native, whole bodies
    bool post_sampling_probs = false;
    bool controllable = false;  // the client needs the id
    const completion_prompt & prompt_of(int32_t choice) const {
        return prompts[static_cast<size_t>(choice) * prompts.size() / n_choices];
    }
    int32_t n_prompt_tokens() const;  // of all prompts
};

// What a prepared request's writer knows before the first token. `native`: and what only llama-server's own completion
// shows.
completion_format make_format(const std::shared_ptr<const model> & model, const generation_request & request,
                              const prepared_request & prepared, bool native);

// The writer, with llama-server's debugging aid around it if the request asked for that.
std::unique_ptr<frame_writer> with_verbose(std::unique_ptr<frame_writer> writer, completion_format format,
                                           const generation_request & request);

// One answer as far as it is known.
struct completion_text {
    std::string content;
    std::string tokens;  // JSON numbers, joined by commas
    std::string probs;   // JSON objects, joined by commas
    int32_t n_tokens = 0;
    bool has_new_line = false;
    std::string timings;  // a ,"timings" member, when pieces carry them

    // Takes the pieces' text, ids, probabilities and newest timings.
    void add(const completion_format & format, const std::vector<piece> & batch);
    // Forgets what a frame has told.
    void clear();
};

// eos, limit, word or none.
std::string_view stop_type_name(const generation_result & result);

// Members of a native object, from "index" to "stop".
void append_native_head(std::string & out, int32_t index, const completion_text & text, bool stop);

// The native object that ends an answer.
std::string native_answer(const completion_format & format, const completion_text & text,
                          const generation_result & result, bool with_probs);

// An element of OpenAI's "choices": a null reason while the answer goes on.
void append_completion_choice(std::string & out, int32_t index, const completion_text & text,
                              const generation_result * result);

}  // namespace pyllama
