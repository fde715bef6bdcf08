#include "prompt_decision.h"

#include <algorithm>

#include "decision.h"
#include "errors.h"
#include "media_source.h"
#include "projector.h"
#include "prompt_settings.h"
#include "random_id.h"
#include "request.h"
#include "request_json.h"
#include "tokenize.h"
#include "writer_decision.h"

namespace pyllama {

namespace {

constexpr size_t most_images = 8;

// The images of a request, which leave its state: a template gets markers instead.
class image_reader {
  public:
    explicit image_reader(const model & model) : model_(model) {}

    void read_list(const common_json & body, const char * name) {
        if (const common_json * list = find_field(body, name)) {
            for (size_t i = 0; i < as_array(*list, name).size(); ++i) {
                add(list->at(i), indexed(name, i));
            }
        }
    }

    // The state, without its messages' images.
    common_json take_from(const common_json & state) {
        const common_json * wrapped = state.is_object() ? find_field(state, "messages") : nullptr;
        if (wrapped == nullptr) {
            return without_images(state, "state");
        }
        common_json plain = state;
        plain["messages"] = without_images(*wrapped, "state.messages");
        return plain;
    }

    const std::vector<media_file> & files() const { return files_; }

  private:
    void add(const common_json & source, const std::string & field) {
        const auto & rules = model_.decisions();
        if (!model_.media() || !model_.media()->reads_images() || rules->marks()) {
            throw error(error_kind::unsupported, "this model takes no images or audio for decisions");
        }
        const std::string text = as_string(source, field);
        if (text.compare(0, 11, "data:image/") != 0) {
            throw bad_request("'" + field + "' must be a data: URI of an image (data:image/png;base64,...)", field);
        }
        if (files_.size() >= most_images) {
            throw bad_request("'" + field + "' is one image too many: " + std::to_string(most_images) + " are the most",
                              field);
        }
        add_media(read_media(model_, text, field), files_);
    }

    void add_part(const common_json & part, const std::string & field) {
        const common_json & image = required(part, "image_url", field);
        const std::string name = field + ".image_url";
        add(image.is_object() ? required(image, "url", name) : image, name);
    }

    common_json without_images(const common_json & messages, const std::string & field) {
        if (!messages.is_array()) {
            return messages;
        }
        common_json plain = common_json::array();
        for (size_t i = 0; i < messages.size(); ++i) {
            common_json message = messages.at(i);
            const common_json * content = message.is_object() ? find_field(message, "content") : nullptr;
            if (content != nullptr && content->is_array()) {
                common_json rest = common_json::array();
                for (size_t k = 0; k < content->size(); ++k) {
                    const common_json & part = content->at(k);
                    const common_json * type = part.is_object() ? find_field(part, "type") : nullptr;
                    const std::string kind = type != nullptr && type->is_string() ? type->get<std::string>() : "";
                    if (kind == "image_url") {
                        add_part(part, indexed(indexed(field, i) + ".content", k));
                    } else if (kind == "input_audio") {
                        throw error(error_kind::unsupported, "this model takes no images or audio for decisions");
                    } else {
                        rest.push_back(part);
                    }
                }
                message["content"] = rest;
            }
            plain.push_back(message);
        }
        return plain;
    }

    const model & model_;
    std::vector<media_file> files_;
};

void refuse_videos(const common_json & body) {
    if (const common_json * videos = find_field(body, "videos"); videos != nullptr && !videos->empty()) {
        throw bad_request("'videos' is not supported", "videos");
    }
}

int32_t common_prefix(const std::vector<media_prompt> & prompts) {
    const llama_tokens & first = prompts.front().tokens;
    size_t n = first.size() - 1;  // each decodes at least one token
    for (const media_prompt & each : prompts) {
        const llama_tokens & prompt = each.tokens;
        const size_t most = std::min(n, prompt.size() - 1);
        const auto end = prompt.begin() + static_cast<std::ptrdiff_t>(most);
        n = static_cast<size_t>(std::mismatch(prompt.begin(), end, first.begin()).first - prompt.begin());
    }
    return static_cast<int32_t>(n);
}

// One after the other in one slot, where what all prompts begin with is decoded once.
void ask_in_turn(prepared_request & prepared, std::vector<media_prompt> && prompts, const decision_rules & rules,
                 const std::vector<decision_question> & questions) {
    generation_params & params = prepared.params;
    params.sampling = common_params_sampling();
    params.sampling.temp = 0;
    params.sampling.samplers.clear();
    params.n_predict = 1;
    params.n_reuse_most = common_prefix(prompts);
    params.shared_slot = std::make_shared<int32_t>(-1);
    params.labels = rules.labels(questions.front().options.size());
    prepared.tokens = std::move(prompts.front().tokens);
    prepared.media = std::move(prompts.front().media);
    for (size_t i = 1; i < prompts.size(); ++i) {
        prepared.more_prompts.push_back({std::move(prompts[i].tokens), false, rules.labels(questions[i].options.size()),
                                         std::move(prompts[i].media)});
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
    image_reader images(*model);
    decision_format format;
    format.rules = rules;
    format.model = model->name();
    format.questions = rules->parse_questions(parsed);
    images.read_list(parsed, "files");
    images.read_list(parsed, "images");
    const common_json state = images.take_from(required(parsed, "state", ""));
    refuse_videos(parsed);
    std::vector<media_prompt> files;  // read once for all questions
    for (const media_file & file : images.files()) {
        files.push_back(model->media()->read(file));
    }
    const std::vector<std::string> markers(files.size(), files.empty() ? std::string() : model->media()->marker());

    std::vector<media_prompt> prompts;
    std::vector<llama_tokens> inputs;
    for (const decision_question & question : format.questions) {
        const std::string text = rules->render(state, question, markers);
        check_size(*model, text, limits.n_ctx_slot);
        media_prompt prompt;
        llama_tokens & tokens = prompt.tokens;
        if (files.empty()) {
            tokens = tokenize(model->vocab(), text, false, true, "state");
        } else {
            prompt = model->media()->place(model->vocab(), text, files, "images");
        }
        if (tokens.empty()) {
            throw bad_request("'state' and 'questions' give no tokens", "state");
        }
        if (rules->marks()) {
            marked_prompt cut = rules->cut(tokens, question.options.size());
            format.markers.push_back(std::move(cut.markers));
            inputs.push_back(std::move(cut.tokens));
            continue;
        }
        if (tokens.size() >= static_cast<size_t>(limits.n_ctx_slot)) {
            throw context_exceeded(static_cast<int64_t>(tokens.size()), limits.n_ctx_slot);
        }
        prompts.push_back(std::move(prompt));
    }
    prepared_request prepared;
    prepared.id = "decision-" + random_id();
    if (rules->marks()) {
        check_encoder(*model, inputs, encoder);
        prepared.inputs = std::move(inputs);
        prepared.embeddings = std::make_shared<embedding_results>();
        format.outputs = prepared.embeddings;
    } else {
        ask_in_turn(prepared, std::move(prompts), *rules, format.questions);
    }
    prepared.writer = std::make_unique<writer_decision>(std::move(format));
    return prepared;
}

}  // namespace pyllama
