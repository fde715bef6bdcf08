#include "reasoning_params.h"

#include <algorithm>
#include <utility>

#include "errors.h"
#include "model.h"
#include "tokenize.h"

namespace pyllama {

namespace {

llama_tokens tokenize_tag(const model & model, const std::string & tag, const char * field) {
    return tag.empty() ? llama_tokens() : tokenize(model.vocab(), tag, false, true, field);
}

// A token that stands for a tag, and which no text is cut into.
bool has_control_token(const model & model, const llama_tokens & tokens) {
    return std::any_of(tokens.begin(), tokens.end(), [&](llama_token token) {
        return (llama_vocab_get_attr(model.vocab(), token) &
                (LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_USER_DEFINED)) != 0;
    });
}

bool contains_any(const llama_tokens & tokens, const std::vector<llama_tokens> & sequences) {
    return std::any_of(sequences.begin(), sequences.end(), [&](const llama_tokens & sequence) {
        return std::search(tokens.begin(), tokens.end(), sequence.begin(), sequence.end()) != tokens.end();
    });
}

llama_tokens joined(llama_tokens first, const llama_tokens & second) {
    first.insert(first.end(), second.begin(), second.end());
    return first;
}

}  // namespace

reasoning_params make_reasoning_params(const model & model, const reasoning_tags & tags,
                                       const reasoning_wishes & wishes) {
    reasoning_params params;
    params.budget = wishes.budget;
    params.soft = std::max(wishes.soft, 0);
    const llama_tokens start = tokenize_tag(model, tags.start, "reasoning_budget_start_tag");
    if (!start.empty()) {
        params.start.push_back(start);
        if (!has_control_token(model, start)) {
            params.start_text.push_back(tags.start);
        }
    }
    for (const std::string & tag : tags.ends) {
        llama_tokens tokens = tokenize_tag(model, tag, "reasoning_budget_end_tags");
        if (!tokens.empty()) {
            params.end.push_back(std::move(tokens));
            params.end_text.push_back(tag);
        }
    }
    if (params.end.empty()) {
        return params;
    }
    params.open = tags.open;
    const llama_tokens message = wishes.message.empty()
                                     ? llama_tokens()
                                     : tokenize_answer(model.vocab(), wishes.message, "reasoning_budget_message");
    const llama_tokens & end = params.end.front();
    if (ends_generation(model.vocab(), end)) {
        if (tags.from_client) {
            throw bad_request("'reasoning_budget_end_tags' begins with a tag that ends the generation",
                              "reasoning_budget_end_tags");
        }
        return params;  // a block of this model cannot be ended without ending the answer
    }
    params.forced_bare = joined(message, end);
    params.forced = params.forced_bare;
    const reasoning_style & style = model.thinking_style();
    if (!tags.from_client && !style.end.empty() && tags.ends.front().find(style.end) != std::string::npos) {
        const bool broken = !wishes.message.empty() && wishes.message.back() == '\n';
        const std::string text = (broken ? "" : style.before_end) + style.end + style.after_end;
        const llama_tokens tokens = tokenize_tag(model, text, "");
        // Some vocabularies have tokens in which a part of the tag and the white space are one.
        if (contains_any(tokens, params.end) && !ends_generation(model.vocab(), tokens)) {
            params.forced = joined(message, tokens);
        }
    }
    return params;
}

bool leaves_open(const reasoning_tags & tags, const std::string & text) {
    const size_t opened = tags.start.empty() ? std::string::npos : text.rfind(tags.start);
    return opened != std::string::npos &&
           std::none_of(tags.ends.begin(), tags.ends.end(), [&](const std::string & end) {
               return !end.empty() && text.find(end, opened + tags.start.size()) != std::string::npos;
           });
}

}  // namespace pyllama
