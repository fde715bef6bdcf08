#include "prompt.h"

#include <algorithm>
#include <iterator>
#include <limits>

#include "continuation.h"
#include "errors.h"
#include "projector.h"
#include "prompt_settings.h"
#include "prompt_writer.h"
#include "random_id.h"
#include "request_anthropic.h"
#include "request_responses.h"
#include "tokenize.h"

namespace pyllama {

namespace {

common_chat_session render(const model & model, const chat_request & request) {
    common_chat_session_params session_params;
    session_params.echo = request.echo;
    try {
        return {model.templates(), model.vocab(), request.inputs, session_params};
    } catch (const std::exception & e) {
        // Schemas are compiled in here too; tell the reasons apart by compiling each alone.
        require_compilable(request.json_schema, request.schema_field);
        for (size_t i = 0; i < request.inputs.tools.size(); ++i) {
            require_compilable(request.inputs.tools[i].parameters, request.parameter_fields[i]);
        }
        std::string reason = e.what();  // many lines, with a piece of the template
        std::replace(reason.begin(), reason.end(), '\n', ' ');
        throw bad_request("the chat template cannot render this '" + request.messages_field + "': " + reason,
                          request.messages_field);
    }
}

struct rendered_chat {
    common_chat_session session;
    std::string continued;  // what follows the session's prompt: a content, and what opens it
};

rendered_chat apply_template(const model & model, chat_request & request) {
    std::string continued = take_plain_content(model.templates(), request.inputs);
    common_chat_session session = render(model, request);
    if (const size_t n = repeated_reasoning_bytes(request.inputs, session)) {
        std::string & reasoning = request.inputs.messages.back().reasoning_content;
        reasoning.resize(reasoning.size() - n);
        session = render(model, request);
    }
    return {std::move(session), std::move(continued)};
}

void set_grammar(const model & model, const chat_request & request, const common_chat_session & session,
                 common_params_sampling & sampling) {
    std::string field = "grammar";
    try {
        session.apply_sampling(sampling);
    } catch (const std::exception & e) {
        throw bad_request(std::string("the grammar of this request cannot be used: ") + e.what(), "tools");
    }
    if (!session.grammar().empty()) {
        field = request.json_schema.empty() ? "tools" : request.schema_field;
    } else {
        field = use_constraint(request, sampling);  // a template without a parser of its own
    }
    if (!sampling.grammar.empty()) {
        check_grammar(model, sampling.grammar.grammar, field);
    }
}

// Tags of the client are for templates that have none.
reasoning_tags tags_of(const chat_request & request, const common_chat_session & session) {
    reasoning_tags tags = request.reasoning_tags;
    if (!session.thinking_end_tags().empty()) {
        tags = {session.thinking_start_tag(), session.thinking_end_tags(), false, false};
    }
    tags.open = leaves_open(tags, own_prefix(request.inputs, session));
    return tags;
}

media_prompt tokenize_prompt(const model & model, const std::string & text, const chat_request & request, int32_t n_ctx,
                             bool only_counted = false) {
    const std::string & field = request.messages_field;
    if (text.empty()) {
        throw bad_request("the chat template gives an empty prompt for this '" + field + "'", field);
    }
    check_size(model, text, n_ctx);
    media_prompt prompt;
    if (request.media.empty()) {
        prompt.tokens = tokenize(model.vocab(), text, true, true, field);
    } else {
        prompt = model.media()->tokenize(model.vocab(), text, request.media, n_ctx, field, only_counted);
    }
    const std::vector<llama_token> & tokens = prompt.tokens;
    if (tokens.empty()) {
        throw bad_request("this '" + field + "' gives a prompt without tokens", field);
    }
    if (tokens.size() >= static_cast<size_t>(n_ctx)) {
        throw context_exceeded(static_cast<int64_t>(tokens.size()), n_ctx);
    }
    return prompt;
}

std::string id_prefix(dialect dialect) {
    switch (dialect) {
        case dialect::responses: return "resp_";
        case dialect::anthropic: return "msg_";
        default: return "chatcmpl-";
    }
}

// llama.cpp tokenises and parses a continued message where no check of ours can come first. Returns the stack that
// takes, in unbroken characters: its reasoning and its content may follow each other without a break.
size_t check_texts(const model & model, const chat_request & request, int32_t n_ctx) {
    size_t n_unbroken = 0;
    const auto & messages = request.inputs.messages;
    for (size_t i = 0; i < messages.size(); ++i) {
        const message_fields & fields = request.fields[i];
        size_t n_message = 0;
        const auto check = [&](const std::string & text, const std::string & field) {
            const size_t n = longest_unbroken(text);
            if (n > tokenize_limits::n_unbroken) {
                check_size(model, text, n_ctx);  // says more to the client
                check_unbroken(model.vocab(), text, field);
            }
            n_message += n;
        };
        check(messages[i].reasoning_content, fields.reasoning);
        check(messages[i].content, fields.content);
        for (const auto & part : messages[i].content_parts) {
            check(part.text, fields.content);
        }
        n_unbroken = std::max(n_unbroken, n_message);
    }
    return std::min(n_unbroken, 2 * tokenize_limits::n_unbroken);
}

prepared_request prepare(const std::shared_ptr<const model> & model, chat_request & request, dialect dialect,
                         const prompt_limits & limits) {
    const auto [session, continued] = apply_template(*model, request);

    prepared_request prepared;
    media_prompt prompt = tokenize_prompt(*model, session.prompt() + continued, request, limits.n_ctx_slot);
    prepared.tokens = std::move(prompt.tokens);
    prepared.media = std::move(prompt.media);
    prepared.id = id_prefix(dialect) + random_id();
    prepared.stream = request.stream || dialect == dialect::paddler;
    prepared.sse_ping_interval = request.sse_ping_interval;
    prepared.background = request.background;
    request.stream = request.stream || request.background;
    prepared.n_choices = request.n_choices;
    prepared.priority = request.priority;

    generation_params & params = prepared.params;
    take_settings(*model, request, limits, request.stream || always_streams(dialect), params);
    set_grammar(*model, request, session, params.sampling);
    params.sampling.generation_prompt += continued;
    params.reasoning = make_reasoning_params(*model, tags_of(request, session), request.reasoning);
    std::remove_copy(session.additional_stops().begin(), session.additional_stops().end(),
                     std::back_inserter(params.template_stop), std::string());
    params.stop.insert(params.stop.end(), params.template_stop.begin(), params.template_stop.end());

    // Its first event tells what was cached.
    params.return_progress = params.return_progress || (dialect == dialect::anthropic && request.stream);

    prepared.writer = make_chat_writer(model, request, session, continued, dialect, prepared);
    return prepared;
}

chat_request parse(const model & model, std::string_view body, dialect dialect) {
    switch (dialect) {
        case dialect::responses: return parse_responses_request(model, body);
        case dialect::anthropic: return parse_anthropic_request(model, body);
        default: return parse_chat_request(model, body);
    }
}

}  // namespace

prepared_request prepare_chat(const std::shared_ptr<const model> & model, std::string_view body, dialect dialect,
                              const prompt_limits & limits) {
    chat_request request = parse(*model, body, dialect);
    check_choices(request, limits);
    require_one_answer(dialect, request.n_choices, request.choices_field);
    prepared_request prepared;
    const size_t n_unbroken = check_texts(*model, request, limits.n_ctx_slot);
    with_stack_for(n_unbroken, [&] { prepared = prepare(model, request, dialect, limits); });
    return prepared;
}

size_t count_chat_tokens(const model & model, std::string_view body, dialect dialect) {
    constexpr int32_t any = std::numeric_limits<int32_t>::max();
    chat_request request = parse(model, body, dialect);
    const size_t n_unbroken = check_texts(model, request, any);
    size_t n = 0;
    with_stack_for(n_unbroken, [&] {
        const rendered_chat chat = apply_template(model, request);
        n = tokenize_prompt(model, chat.session.prompt() + chat.continued, request, any, true).tokens.size();
    });
    return n;
}

std::string render_chat(const model & model, std::string_view body, dialect dialect) {
    chat_request request = parse(model, body, dialect);
    const size_t n_unbroken = check_texts(model, request, std::numeric_limits<int32_t>::max());
    std::string text;
    with_stack_for(n_unbroken, [&] {
        const rendered_chat chat = apply_template(model, request);
        text = chat.session.prompt() + chat.continued;
    });
    return text;
}

}  // namespace pyllama
