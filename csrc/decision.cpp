#include "decision.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "errors.h"
#include "jinja/runtime.h"
#include "jinja/value.h"
#include "request_json.h"

namespace pyllama {

namespace {

constexpr size_t n_option_tokens = 48;  // of one option's text, as laya was trained
constexpr size_t n_questions_most = 256;

std::string metadata(const llama_model * model, const std::string & key) {
    char text[256] = {};
    return llama_model_meta_val_str(model, key.c_str(), text, sizeof(text)) < 0 ? "" : text;
}

[[noreturn]] void unusable(const std::string & why) {
    throw error(error_kind::model_load, "the decision model cannot be used: " + why);
}

// A value with `text` taken out of every string in it.
common_json without(const common_json & value, const std::string & text) {
    if (value.is_string()) {
        auto plain = value.get<std::string>();
        string_replace_all(plain, text, " ");
        return plain;
    }
    if (value.is_array()) {
        common_json plain = common_json::array();
        for (const common_json & item : value) {
            plain.push_back(without(item, text));
        }
        return plain;
    }
    if (value.is_object()) {
        common_json plain = common_json::object();
        for (const auto & entry : value.items()) {
            plain[entry.k] = without(entry.v, text);
        }
        return plain;
    }
    return value;
}

std::vector<decision_option> parse_options(const common_json & criteria, question_kind kind, bool true_first,
                                           const std::string & field) {
    std::vector<decision_option> options;
    if (kind == question_kind::choice) {
        if (!criteria.is_object() || criteria.empty()) {
            throw bad_request("'" + field + "' must be a non-empty object", field);
        }
        for (const auto & entry : criteria.items()) {
            options.push_back({entry.k, entry.v});
        }
    } else if (kind == question_kind::score) {
        if (!criteria.is_array() || criteria.size() < 2 || criteria.size() > 10) {
            throw bad_request("'" + field + "' must be a list of 2 to 10 levels", field);
        }
        for (size_t i = 0; i < criteria.size(); ++i) {
            options.push_back({std::to_string(i), criteria.at(i)});
        }
    } else {
        if (!criteria.is_null() && !criteria.is_object()) {
            throw bad_request("'" + field + "' must be an object", field);
        }
        for (const char * key : {"false", "true"}) {
            const bool described = criteria.is_object() && criteria.contains(key);
            options.push_back({key, described ? criteria.at(key) : common_json(nullptr)});
        }
        if (true_first) {
            std::swap(options[0], options[1]);
        }
    }
    return options;
}

question_kind parse_kind(const common_json & question, const std::string & field) {
    const common_json * value = find_field(question, "type");
    const std::string name = value != nullptr ? as_string(*value, field) : "";
    for (const question_kind kind : {question_kind::choice, question_kind::score, question_kind::noul}) {
        if (name == kind_name(kind)) {
            return kind;
        }
    }
    throw bad_request("'" + field + "' must be choice, score or noul", field);
}

}  // namespace

const char * kind_name(question_kind kind) {
    switch (kind) {
        case question_kind::choice: return "choice";
        case question_kind::score: return "score";
        case question_kind::noul: break;
    }
    return "noul";
}

std::shared_ptr<const decision_rules> decision_rules::read(const llama_model * model) {
    const common_decision_type kind = common_get_decision_type(model);
    if (kind == COMMON_DECISION_TYPE_NONE) {
        return nullptr;
    }
    const std::string prefix = metadata(model, "general.architecture") + ".decision.";
    auto rules = std::make_shared<decision_rules>();
    rules->kind_ = kind;
    rules->name_ = metadata(model, prefix + "type");
    rules->vocab_ = llama_model_get_vocab(model);
    const char * source = llama_model_chat_template(model, "systemone");
    if (source == nullptr) {
        unusable("it has no template \"systemone\"");
    }
    rules->template_ = std::make_unique<const common_chat_template>(source, "", "");
    const std::string temperatures = prefix + "temperature.";
    for (int32_t i = 0; i < llama_model_meta_count(model); ++i) {
        char key[256] = {};
        char text[64] = {};
        if (llama_model_meta_key_by_index(model, i, key, sizeof(key)) < 0 ||
            std::string(key).rfind(temperatures, 0) != 0 ||
            llama_model_meta_val_str_by_index(model, i, text, sizeof(text)) < 0) {
            continue;
        }
        const float value = std::strtof(text, nullptr);
        if (!(value > 0) || !std::isfinite(value)) {
            unusable(std::string(key) + " is " + text);
        }
        rules->temperatures_[std::string(key).substr(temperatures.size())] = value;
    }
    switch (kind) {
        case COMMON_DECISION_TYPE_OPENJEV:
            rules->true_first_ = true;
            rules->read_labels(false);
            break;
        case COMMON_DECISION_TYPE_PPLX_DECIDER: rules->read_labels(true); break;
        case COMMON_DECISION_TYPE_LAYA: rules->read_markers(model, prefix); break;
        default: break;  // requests are told
    }
    return rules;
}

// One token each: A to Z and a to z; or A to Z and AA to ZZ, as far as the vocabulary has them, which the template is
// given.
void decision_rules::read_labels(bool two_letters) {
    std::vector<std::string> texts;
    for (char c = 'A'; c <= 'Z'; ++c) {
        texts.emplace_back(1, c);
    }
    for (char first = two_letters ? 'A' : 'a'; first <= (two_letters ? 'Z' : 'z'); ++first) {
        if (!two_letters) {
            texts.emplace_back(1, first);
            continue;
        }
        for (char second = 'A'; second <= 'Z'; ++second) {
            texts.push_back({first, second});
        }
    }
    for (const std::string & text : texts) {
        const llama_tokens tokens = common_tokenize(vocab_, text, false, false);
        if (tokens.size() == 1 && labels_.size() < 255) {
            labels_.push_back(tokens[0]);
            if (two_letters) {
                label_texts_.push_back(text);
            }
        } else if (!two_letters) {
            unusable("'" + text + "' is not a single token");
        }
    }
    n_options_most_ = labels_.size();
}

void decision_rules::read_markers(const llama_model * model, const std::string & prefix) {
    marker_ = llama_vocab_mask(vocab_);
    separator_ = llama_vocab_sep(vocab_);
    if (marker_ == LLAMA_TOKEN_NULL || separator_ == LLAMA_TOKEN_NULL) {
        unusable("its vocabulary has no mask or separator token");
    }
    marker_text_ = common_token_to_piece(vocab_, marker_, true);
    n_head_most_ = std::strtoul(metadata(model, prefix + "max_head_tokens").c_str(), nullptr, 10);
    if (n_head_most_ == 0) {
        unusable(prefix + "max_head_tokens is missing");
    }
    if (llama_model_n_embd_out(model) < 3) {
        unusable("its output has fewer than 3 columns");
    }
}

std::vector<decision_question> decision_rules::parse_questions(const common_json & body) const {
    if (labels_.empty() && !marks()) {
        throw error(error_kind::unsupported, "decision models of type '" + name_ + "' are not supported");
    }
    const common_json & asked = as_object(required(body, "questions", ""), "questions");
    if (asked.empty() || asked.size() > n_questions_most) {
        throw bad_request("'questions' must have 1 to " + std::to_string(n_questions_most) + " entries", "questions");
    }
    std::vector<decision_question> questions;
    for (const auto & entry : asked.items()) {
        const std::string field = "questions." + entry.k;
        const common_json & value = as_object(entry.v, field);
        decision_question question;
        question.id = entry.k;
        question.instructions = required(value, "instructions", field);
        question.kind = parse_kind(value, field + ".type");
        const common_json * criteria = find_field(value, "criteria");
        question.options = parse_options(criteria != nullptr ? *criteria : common_json(nullptr), question.kind,
                                         true_first_, field + ".criteria");
        if (question.options.size() > n_options_most_) {
            throw bad_request("'" + field + ".criteria' has " + std::to_string(question.options.size()) +
                                  " options, and this model takes at most " + std::to_string(n_options_most_),
                              field + ".criteria");
        }
        questions.push_back(std::move(question));
    }
    return questions;
}

std::string decision_rules::render(const common_json & state, const decision_question & question,
                                   const std::vector<std::string> & media) const {
    common_json options = common_json::array();
    for (size_t i = 0; i < question.options.size(); ++i) {
        common_json option = {{"key", question.options[i].key}, {"description", question.options[i].description}};
        if (!label_texts_.empty()) {
            option["label"] = label_texts_[i];
        }
        options.push_back(option);
    }
    common_json input = {
        {"id", question.id},
        {"type", kind_name(question.kind)},
        {"instructions", question.instructions},
        {"state", state},
        {"options", options},
    };
    if (!marker_text_.empty()) {
        input = without(input, marker_text_);  // a client's text marks no option
    }
    common_json images = common_json::array();
    for (const std::string & marker : media) {
        input = without(input, marker);
        images.push_back(marker);
    }
    input["images"] = images;
    try {
        jinja::context context(template_->source());
        jinja::global_from_json(context, input, false);
        jinja::runtime runtime(context);
        const jinja::value parts = runtime.execute(template_->prog);
        return jinja::runtime::gather_string_parts(parts)->as_string().str();
    } catch (const std::exception & e) {
        throw bad_request(std::string("the model's template cannot write this: ") + e.what(), "state");
    }
}

// [start] question [separator] ([marker] option)* [separator] state [separator]
marked_prompt decision_rules::cut(const llama_tokens & tokens, size_t n_options) const {
    std::vector<size_t> markers;
    for (size_t i = 0; i < tokens.size(); ++i) {
        if (tokens[i] == marker_) {
            markers.push_back(i);
        }
    }
    const auto at = [&](size_t i) { return tokens.begin() + static_cast<std::ptrdiff_t>(i); };
    const auto rest = markers.empty() ? tokens.end() : std::find(at(markers.back()), tokens.end(), separator_);
    if (markers.size() != n_options || markers[0] < 2 || tokens[markers[0] - 1] != separator_ || rest == tokens.end() ||
        rest + 1 == tokens.end() || tokens.back() != separator_) {
        throw error(error_kind::engine, "the decision model's template has another layout than expected");
    }
    std::vector<llama_tokens> options;
    for (size_t i = 0; i < n_options; ++i) {
        options.emplace_back(at(markers[i]), i + 1 < n_options ? at(markers[i + 1]) : rest);
    }
    const auto shorten = [&](size_t n_most) {
        size_t n = 0;
        for (llama_tokens & option : options) {
            option.resize(std::min(option.size(), n_most));
            n += option.size();
        }
        return n;
    };
    size_t n_used = shorten(n_option_tokens + 1);
    if (n_used + 16 > n_head_most_) {
        n_used = shorten(std::max<size_t>(4, (n_head_most_ - std::min<size_t>(n_head_most_, 16)) / n_options));
    }
    const size_t n_question = std::max<size_t>(8, n_head_most_ - std::min(n_head_most_, n_used));

    marked_prompt prompt;
    prompt.tokens.assign(tokens.begin(), at(std::min(markers[0] - 1, 1 + n_question)));
    prompt.tokens.push_back(separator_);
    for (const llama_tokens & option : options) {
        prompt.markers.push_back(prompt.tokens.size());
        prompt.tokens.insert(prompt.tokens.end(), option.begin(), option.end());
    }
    prompt.tokens.insert(prompt.tokens.end(), rest, tokens.end());
    return prompt;
}

}  // namespace pyllama
