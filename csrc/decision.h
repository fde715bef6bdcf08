// Decision models: one forward pass answers a typed question about a state, and no text is generated. What such a
// model's file says about it, and a request's questions. Immutable after load; any thread.
//
//   openjev, pplx-decider   a question is a prompt; the logits of the options' labels (A, B, ...) after it are the
//   scores laya                    an encoder; at the marker in front of each option its output has a score
//
// Other kinds are refused by name.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "chat.h"
#include "common.h"
#include "json.h"

namespace pyllama {

// The order is that of the columns of laya's output.
enum class question_kind { choice, score, noul };

const char * kind_name(question_kind kind);  // in requests and answers

struct decision_option {
    std::string key;
    common_json description;  // null when there is none
};

struct decision_question {
    std::string id;
    question_kind kind = question_kind::choice;
    common_json instructions;
    std::vector<decision_option> options;  // in the order of the scores
};

// A prompt of laya: where the scores are.
struct marked_prompt {
    llama_tokens tokens;
    std::vector<size_t> markers;
};

class decision_rules {
  public:
    // Null for models that decide nothing. Throws error(model_load).
    static std::shared_ptr<const decision_rules> read(const llama_model * model);

    // Whether the scores are outputs at markers, and not logits of labels.
    bool marks() const { return kind_ == COMMON_DECISION_TYPE_LAYA; }

    // Tokens of the labels of n options.
    llama_tokens labels(size_t n) const { return {labels_.begin(), labels_.begin() + static_cast<std::ptrdiff_t>(n)}; }

    // "questions" of a request. Throws error: invalid_request with the field named, unsupported.
    std::vector<decision_question> parse_questions(const common_json & body) const;

    // The prompt that asks a question about a state, as the model's template writes it.
    // media: what stands for each image.
    std::string render(const common_json & state, const decision_question & question,
                       const std::vector<std::string> & media = {}) const;

    // The tokens of laya's prompt, its question and options cut to what the model was trained with.
    marked_prompt cut(const llama_tokens & tokens, size_t n_options) const;

    // The answer to a question, as JSON: scores are the model's, one for each option.
    std::string answer(const decision_question & question, const std::vector<float> & scores) const;

  private:
    void read_labels(bool two_letters);
    void read_markers(const llama_model * model, const std::string & prefix);
    float temperature(const decision_question & question) const;

    const llama_vocab * vocab_ = nullptr;
    common_decision_type kind_ = COMMON_DECISION_TYPE_NONE;
    std::string name_;
    std::unique_ptr<const common_chat_template> template_;
    std::map<std::string, float> temperatures_;  // by kind, or by kind and number of options
    size_t n_options_most_ = 255;
    bool true_first_ = false;  // the options of a noul question
    llama_tokens labels_;
    std::vector<std::string> label_texts_;  // only where the template writes them
    llama_token marker_ = LLAMA_TOKEN_NULL;
    llama_token separator_ = LLAMA_TOKEN_NULL;
    std::string marker_text_;
    size_t n_head_most_ = 0;  // tokens of question and options together
};

}  // namespace pyllama
