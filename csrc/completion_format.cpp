#include "completion_format.h"

#include <algorithm>
#include <ctime>

#include "json.h"
#include "json_text.h"
#include "prompt_tokens.h"
#include "settings_json.h"
#include "writer_verbose.h"

namespace pyllama {

namespace {

void append_member(std::string & out, const char * name, std::string_view json) {
    out += ",\"";
    out += name;
    out += "\":";
    out += json;
}

// "a/b" takes member b of a to the top, under the name "a/b". What is not there is left out.
std::string select_fields(const std::string & object, const std::vector<std::string> & fields) {
    const common_json source = common_json::parse(object);
    common_json selected = common_json::object();
    for (const std::string & field : fields) {
        const common_json * found = &source;
        for (size_t begin = 0; found != nullptr && begin <= field.size();) {
            const size_t end = std::min(field.find('/', begin), field.size());
            const std::string name = field.substr(begin, end - begin);
            found = found->is_object() && found->contains(name) ? &found->at(name) : nullptr;
            begin = end + 1;
        }
        if (found != nullptr) {
            selected[field] = *found;
        }
    }
    return selected.dump_safe();
}

}  // namespace

completion_format make_format(const std::shared_ptr<const model> & model, const generation_request & request,
                              const prepared_request & prepared, bool native) {
    completion_format format;
    format.id = prepared.id;
    format.created = static_cast<int64_t>(std::time(nullptr));
    format.include_usage = request.include_usage;
    format.logprobs = request.n_logprobs >= 0;
    format.timings_per_token = prepared.params.timings_per_token;
    format.loaded_model = model;
    format.controllable = prepared.params.sampling.reasoning_control;
    format.n_choices = static_cast<size_t>(prepared.n_answers());
    const bool whole = native || request.verbose;
    if (whole) {
        format.settings = settings_json(prepared.params);
    }
    const auto add = [&](const llama_tokens & tokens) {
        format.prompts.push_back({static_cast<int32_t>(tokens.size()), {}});
        if (whole) {
            format.prompts.back().text = prompt_text(*model, tokens);
        }
    };
    add(prepared.tokens);
    for (const further_prompt & prompt : prepared.more_prompts) {
        add(prompt.tokens);
    }
    return format;
}

std::unique_ptr<frame_writer> with_verbose(std::unique_ptr<frame_writer> writer, completion_format format,
                                           const generation_request & request) {
    if (!request.verbose) {
        return writer;
    }
    return std::make_unique<writer_verbose>(std::move(writer), std::move(format));
}

int32_t completion_format::n_prompt_tokens() const {
    int32_t n = 0;
    for (const completion_prompt & prompt : prompts) {
        n += prompt.n_tokens;
    }
    return n;
}

void completion_text::add(const completion_format & format, const std::vector<piece> & batch) {
    for (const piece & value : batch) {
        content += value.text;
        has_new_line = has_new_line || value.text.find('\n') != std::string::npos;
        if (value.token != LLAMA_TOKEN_NULL) {
            ++n_tokens;
            tokens += tokens.empty() ? "" : ",";
            append_integer(tokens, value.token);
        }
    }
    if (format.logprobs) {
        append_logprobs(probs, *format.loaded_model, batch, format.post_sampling_probs);
    }
    if (const generation_timings * newest = newest_timings(batch)) {
        timings = ",\"timings\":";
        append_timings(timings, *newest);
    }
}

void completion_text::clear() {
    content.clear();
    tokens.clear();
    probs.clear();
}

std::string_view stop_type_name(const generation_result & result) {
    if (result.failure) {
        return "none";
    }
    switch (result.reason) {
        case finish_reason::length: return "limit";
        case finish_reason::stop: return result.stop_string.empty() ? "eos" : "word";
        case finish_reason::cancelled: break;
    }
    return "none";
}

void append_native_head(std::string & out, int32_t index, const completion_text & text, bool stop) {
    out += "{\"index\":";
    append_integer(out, index);
    out += ",\"content\":";
    append_quoted(out, text.content);
    append_member(out, "tokens", "[" + text.tokens + "]");
    append_member(out, "stop", stop ? "true" : "false");
}

std::string native_answer(const completion_format & format, const completion_text & text,
                          const generation_result & result, bool with_probs) {
    const generation_timings & timings = result.timings;
    std::string out;
    append_native_head(out, result.choice, text, true);
    append_member(out, "id_slot", std::to_string(result.id_slot));
    append_member(out, "model", json_quoted(format.loaded_model->name()));
    append_member(out, "tokens_predicted", std::to_string(timings.n_decoded));
    append_member(out, "tokens_evaluated", std::to_string(result.n_prompt_tokens));
    append_member(out, "generation_settings", format.settings);
    append_member(out, "prompt", json_quoted(format.prompt_of(result.choice).text));
    append_member(out, "has_new_line", text.has_new_line ? "true" : "false");
    append_member(out, "truncated", result.truncated ? "true" : "false");
    append_member(out, "stop_type", json_quoted(stop_type_name(result)));
    append_member(out, "stopping_word", json_quoted(result.stop_string));
    // The last token was sampled, but not decoded.
    append_member(out, "tokens_cached", std::to_string(result.n_prompt_tokens + std::max(timings.n_decoded - 1, 0)));
    out += ",\"timings\":";
    append_timings(out, timings);
    if (with_probs && format.logprobs) {
        append_member(out, "completion_probabilities", "[" + text.probs + "]");
    }
    append_failure(out, result);
    out += '}';
    return format.response_fields.empty() ? out : select_fields(out, format.response_fields);
}

void append_completion_choice(std::string & out, int32_t index, const completion_text & text,
                              const generation_result * result) {
    out += "{\"text\":";
    append_quoted(out, text.content);
    append_member(out, "index", std::to_string(index));
    append_member(out, "logprobs", text.probs.empty() ? "null" : "{\"content\":[" + text.probs + "]}");
    append_member(out, "finish_reason", result != nullptr ? json_quoted(finish_reason_name(*result, false)) : "null");
    if (result != nullptr) {
        append_failure(out, *result);
    }
    out += '}';
}

}  // namespace pyllama
