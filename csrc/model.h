// A loaded model: weights, vocabulary, chat templates. Immutable after load and shared by engines; any thread
// may read it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "chat.h"
#include "common.h"
#include "decision.h"
#include "llama.h"
#include "reasoning_style.h"

namespace pyllama {

class projector;

class model {
  public:
    // Loads as `params` say (path, devices, offload, template override, ...). Throws error(model_load).
    static std::shared_ptr<model> load(common_params params);
    // Vocabulary and templates only: enough to tokenise and to prepare prompts, not to decode.
    static std::shared_ptr<model> load_vocab(common_params params);
    ~model();
    model(const model &) = delete;
    model & operator=(const model &) = delete;

    llama_model * handle() const { return handle_; }
    const llama_vocab * vocab() const { return vocab_; }
    const common_chat_templates * templates() const { return templates_.get(); }
    // The server's flags: defaults of every request (sampling, reasoning, template arguments, n_predict).
    const common_params & params() const { return params_; }
    int32_t n_vocab() const { return n_vocab_; }
    // The name that answers carry: the first alias, else what the model was loaded from.
    const std::string & name() const { return name_; }
    // The template can think, and the server's flags do not forbid it.
    bool thinks() const { return thinks_; }
    // What the template writes at the end of a reasoning block.
    const reasoning_style & thinking_style() const { return thinking_style_; }
    // How it answers typed questions; null for models that generate text only.
    const std::shared_ptr<const decision_rules> & decisions() const { return decisions_; }
    // What reads images; null without --mmproj.
    const std::shared_ptr<const projector> & media() const { return media_; }
    // Bytes of the longest token: a text longer than n_ctx times this cannot fit.
    size_t max_token_bytes() const { return max_token_bytes_; }
    // Text of a token; control tokens only when `special`.
    std::string piece(llama_token token, bool special) const;

  private:
    model() = default;
    static std::shared_ptr<model> load(common_params && params, bool vocab_only);
    void read_vocab();
    void read_templates();
    llama_model * handle_ = nullptr;
    const llama_vocab * vocab_ = nullptr;
    common_chat_templates_ptr templates_;
    common_params params_;
    int32_t n_vocab_ = 0;
    size_t max_token_bytes_ = 1;
    std::string name_;
    bool thinks_ = false;
    reasoning_style thinking_style_;
    std::shared_ptr<const decision_rules> decisions_;
    std::shared_ptr<const projector> media_;
};

}  // namespace pyllama
