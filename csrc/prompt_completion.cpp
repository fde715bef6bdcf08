// Preparation of a raw completion. What a thought looks like only the client can say here.
#include "completion_format.h"
#include "errors.h"
#include "prompt.h"
#include "prompt_settings.h"
#include "prompt_tokens.h"
#include "random_id.h"
#include "request_completion.h"
#include "writer_completion_body.h"
#include "writer_completion_stream.h"
#include "writer_deltas.h"
#include "writer_native_body.h"
#include "writer_native_stream.h"
#include "writer_paddler.h"

namespace pyllama {

namespace {

std::unique_ptr<frame_writer> make_writer(const std::shared_ptr<const model> & model, completion_request & request,
                                          dialect dialect, const prepared_request & prepared) {
    const bool native = dialect == dialect::native;
    completion_format format = make_format(model, request, prepared, native);
    if (always_streams(dialect)) {
        chat_parser_options options;
        options.plain = true;
        std::vector<chat_parser> parsers;
        for (int32_t i = 0; i < prepared.n_answers(); ++i) {
            parsers.emplace_back(common_chat_session(), nullptr, options);
        }
        if (dialect == dialect::paddler) {
            return std::make_unique<writer_paddler>(std::move(format), std::move(parsers), false);
        }
        return std::make_unique<writer_deltas>(std::move(format), std::move(parsers));
    }
    format.post_sampling_probs = request.post_sampling_probs;
    format.return_tokens = request.return_tokens;
    if (!native) {
        std::unique_ptr<frame_writer> writer;
        if (request.stream) {
            writer = std::make_unique<writer_completion_stream>(format);
        } else {
            writer = std::make_unique<writer_completion_body>(format);
        }
        return with_verbose(std::move(writer), std::move(format), request);
    }
    format.response_fields = std::move(request.response_fields);
    if (request.stream) {
        return std::make_unique<writer_native_stream>(std::move(format));
    }
    return std::make_unique<writer_native_body>(std::move(format));
}

prepared_request prepare(const std::shared_ptr<const model> & model, completion_request && request, dialect dialect,
                         const prompt_limits & limits) {
    check_choices(request, limits);
    require_one_answer(dialect, request.n_choices, request.choices_field);
    require_one_answer(dialect, static_cast<int32_t>(request.prompts.size()), "prompt");
    prepared_request prepared;
    prepared.n_choices = request.n_choices;
    prepared.priority = request.priority;
    prepared.id = (dialect == dialect::openai ? "cmpl-" : "chatcmpl-") + random_id();
    prepared.stream = request.stream || dialect == dialect::paddler;
    prepared.sse_ping_interval = request.sse_ping_interval;
    prepared.tokens = std::move(request.prompts.front().tokens);
    prepared.media = std::move(request.prompts.front().media);

    generation_params & params = prepared.params;
    take_settings(*model, request, limits, request.stream || always_streams(dialect), params);
    reasoning_tags & tags = request.reasoning_tags;
    if (!tags.ends.empty()) {
        tags.open = leaves_open(tags, prompt_text(*model, prepared.tokens));
        params.reasoning = make_reasoning_params(*model, tags, request.reasoning);
    }
    for (size_t i = 1; i < request.prompts.size(); ++i) {
        media_prompt & prompt = request.prompts[i];
        const bool open = !tags.ends.empty() && leaves_open(tags, prompt_text(*model, prompt.tokens));
        prepared.more_prompts.push_back({std::move(prompt.tokens), open, {}, std::move(prompt.media)});
    }
    const std::string field = use_constraint(request, params.sampling);
    if (!params.sampling.grammar.empty()) {
        check_grammar(*model, params.sampling.grammar.grammar, field);
    }
    params.post_sampling_probs = request.post_sampling_probs;
    params.n_indent = request.n_indent;
    prepared.writer = make_writer(model, request, dialect, prepared);
    return prepared;
}

}  // namespace

prepared_request prepare_completion(const std::shared_ptr<const model> & model, std::string_view body, dialect dialect,
                                    const prompt_limits & limits) {
    return prepare(model, parse_completion_request(*model, body, limits), dialect, limits);
}

prepared_request prepare_infill(const std::shared_ptr<const model> & model, std::string_view body,
                                const prompt_limits & limits) {
    return prepare(model, parse_infill_request(*model, body, limits), dialect::native, limits);
}

}  // namespace pyllama
