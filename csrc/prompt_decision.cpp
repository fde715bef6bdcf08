#include "prompt_decision.h"

#include <algorithm>

#include "decision.h"
#include "errors.h"
#include "prompt_settings.h"
#include "random_id.h"
#include "request.h"
#include "request_json.h"
#include "tokenize.h"
#include "writer_decision.h"

namespace pyllama {

namespace {

bool has_part(const common_json & messages, const char * type) {
    if (!messages.is_array()) {
        return false;
    }
    for (const common_json & message : messages) {
        const common_json * content = message.is_object() ? find_field(message, "content") : nullptr;
        if (content == nullptr || !content->is_array()) {
            continue;
        }
        for (const common_json & part : *content) {
            const common_json * kind = part.is_object() ? find_field(part, "type") : nullptr;
            if (kind != nullptr && kind->is_string() && kind->get<std::string>() == type) {
                return true;
            }
        }
    }
    return false;
}

void refuse_media(const common_json & body, const common_json & state) {
    const common_json * wrapped = state.is_object() ? find_field(state, "messages") : nullptr;
    bool found = has_part(wrapped != nullptr ? *wrapped : state, "image_url") ||
                 has_part(wrapped != nullptr ? *wrapped : state, "input_audio");
    for (const char * name : {"files", "images"}) {
        const common_json * files = find_field(body, name);
        found = found || (files != nullptr && !as_array(*files, name).empty());
    }
    if (found) {
        throw error(error_kind::unsupported, "this server takes no images or audio for decisions");
    }
    if (const common_json * videos = find_field(body, "videos"); videos != nullptr && !videos->empty()) {
        throw bad_request("'videos' is not supported", "videos");
    }
}

int32_t common_prefix(const std::vector<llama_tokens> & prompts) {
    size_t n = prompts.front().size() - 1;  // each decodes at least one token
    for (const llama_tokens & prompt : prompts) {
        const size_t most = std::min(n, prompt.size() - 1);
        const auto end = prompt.begin() + static_cast<std::ptrdiff_t>(most);
        n = static_cast<size_t>(std::mismatch(prompt.begin(), end, prompts.front().begin()).first - prompt.begin());
    }
    return static_cast<int32_t>(n);
}

// One after the other in one slot, where what all prompts begin with is decoded once.
void ask_in_turn(prepared_request & prepared, std::vector<llama_tokens> && prompts, const decision_rules & rules,
                 const std::vector<decision_question> & questions) {
    generation_params & params = prepared.params;
    params.sampling = common_params_sampling();
    params.sampling.temp = 0;
    params.sampling.samplers.clear();
    params.n_predict = 1;
    params.n_reuse_most = common_prefix(prompts);
    params.shared_slot = std::make_shared<int32_t>(-1);
    params.labels = rules.labels(questions.front().options.size());
    prepared.tokens = std::move(prompts.front());
    for (size_t i = 1; i < prompts.size(); ++i) {
        prepared.more_prompts.push_back({std::move(prompts[i]), false, rules.labels(questions[i].options.size())});
    }
}

void check_encoder(const model & model, const std::vector<llama_tokens> & inputs, const embedding_limits & encoder) {
    size_t n = 0;
    for (const llama_tokens & tokens : inputs) {
        const auto n_input = static_cast<int32_t>(tokens.size());
        if (n_input > std::min(encoder.n_ctx, encoder.n_ubatch)) {
            throw context_exceeded(n_input, std::min(encoder.n_ctx, encoder.n_ubatch));
        }
        n += tokens.size();
    }
    const size_t most = request_limits::n_floats / static_cast<size_t>(llama_model_n_embd_out(model.handle()));
    if (n > most) {
        throw bad_request(
            "'questions' give " + std::to_string(n) + " tokens, and " + std::to_string(most) + " are the most",
            "questions");
    }
}

}  // namespace

prepared_request prepare_decision(const std::shared_ptr<const model> & model, std::string_view body,
                                  const prompt_limits & limits, const embedding_limits & encoder) {
    const auto & rules = model->decisions();
    if (!rules) {
        throw error(error_kind::unsupported, "This model is not a decision model");
    }
    const common_json parsed = parse_body(body);
    const common_json & state = required(parsed, "state", "");
    decision_format format;
    format.rules = rules;
    format.model = model->name();
    format.questions = rules->parse_questions(parsed);
    refuse_media(parsed, state);

    std::vector<llama_tokens> prompts;
    for (const decision_question & question : format.questions) {
        const std::string text = rules->render(state, question);
        check_size(*model, text, limits.n_ctx_slot);
        llama_tokens tokens = tokenize(model->vocab(), text, false, true, "state");
        if (tokens.empty()) {
            throw bad_request("'state' and 'questions' give no tokens", "state");
        }
        if (rules->marks()) {
            marked_prompt cut = rules->cut(tokens, question.options.size());
            format.markers.push_back(std::move(cut.markers));
            tokens = std::move(cut.tokens);
        } else if (tokens.size() >= static_cast<size_t>(limits.n_ctx_slot)) {
            throw context_exceeded(static_cast<int64_t>(tokens.size()), limits.n_ctx_slot);
        }
        prompts.push_back(std::move(tokens));
    }
    prepared_request prepared;
    prepared.id = "decision-" + random_id();
    if (rules->marks()) {
        check_encoder(*model, prompts, encoder);
        prepared.inputs = std::move(prompts);
        prepared.embeddings = std::make_shared<embedding_results>();
        format.outputs = prepared.embeddings;
    } else {
        ask_in_turn(prepared, std::move(prompts), *rules, format.questions);
    }
    prepared.writer = std::make_unique<writer_decision>(std::move(format));
    return prepared;
}

}  // namespace pyllama
