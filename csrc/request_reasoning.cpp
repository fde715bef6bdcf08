// What a request says of reasoning: whether and how the model thinks, the budget's message, a client's own tags.
#include "errors.h"
#include "json_text.h"
#include "request_chat.h"

namespace pyllama {

namespace {

std::string limited(const common_json & value, const std::string & field, size_t most) {
    std::string text = as_string(value, field);
    if (text.size() > most) {
        throw bad_request("'" + field + "' is longer than " + std::to_string(most) + " bytes", field);
    }
    return text;
}

}  // namespace

void read_reasoning(const common_params & params, const common_json & body, generation_request & request) {
    if (request.reasoning.budget < 0) {
        request.reasoning.budget = params.sampling.reasoning_budget_tokens;
    }
    if (const common_json * value = find_field(body, "reasoning_budget_message")) {
        request.reasoning.message =
            limited(*value, "reasoning_budget_message", request_limits::reasoning_message_bytes);
    }
    reasoning_tags & tags = request.reasoning_tags;
    tags.from_client = true;
    constexpr size_t most = request_limits::reasoning_tag_bytes;
    if (const common_json * value = find_field(body, "reasoning_budget_start_tag")) {
        tags.start = limited(*value, "reasoning_budget_start_tag", most);
    }
    const auto add_end = [&](const common_json & value, const std::string & field) {
        std::string tag = limited(value, field, most);
        if (!tag.empty()) {
            tags.ends.push_back(std::move(tag));
        }
    };
    if (const common_json * value = find_field(body, "reasoning_budget_end_tags")) {
        if (as_array(*value, "reasoning_budget_end_tags").size() > request_limits::n_reasoning_tags) {
            throw bad_request("'reasoning_budget_end_tags' has more than " +
                                  std::to_string(request_limits::n_reasoning_tags) + " tags",
                              "reasoning_budget_end_tags");
        }
        for (size_t i = 0; i < value->size(); ++i) {
            add_end(value->at(i), "reasoning_budget_end_tags[" + std::to_string(i) + "]");
        }
    } else if (const common_json * tag = find_field(body, "reasoning_budget_end_tag")) {
        add_end(*tag, "reasoning_budget_end_tag");
    }
}

void read_thinking(const model & model, const common_json & body, const common_json * effort,
                   const std::string & effort_field, chat_request & request) {
    auto & inputs = request.inputs;
    inputs.reasoning_format = model.params().reasoning_format;
    if (const common_json * format = find_field(body, "reasoning_format")) {
        const std::string name = as_string(*format, "reasoning_format");
        try {
            inputs.reasoning_format = common_reasoning_format_from_name(name);
        } catch (const std::exception &) {
            throw bad_request(
                "'reasoning_format' must be none, auto, deepseek or deepseek-legacy, but is '" + name + "'",
                "reasoning_format");
        }
    }
    inputs.enable_thinking = model.thinks();
    inputs.chat_template_kwargs = model.params().default_template_kwargs;
    if (const common_json * kwargs = find_field(body, "chat_template_kwargs")) {
        for (const auto & entry : as_object(*kwargs, "chat_template_kwargs").items()) {
            inputs.chat_template_kwargs[entry.k] = entry.v.dump();
        }
    }
    const auto thinking = inputs.chat_template_kwargs.find("enable_thinking");
    if (thinking != inputs.chat_template_kwargs.end()) {
        if (thinking->second != "true" && thinking->second != "false") {
            throw bad_request("'chat_template_kwargs.enable_thinking' must be true or false",
                              "chat_template_kwargs.enable_thinking");
        }
        inputs.enable_thinking = thinking->second == "true";
    }
    if (effort == nullptr) {
        return;
    }
    const std::string level = as_string(*effort, effort_field);
    if (level == "none") {
        disable_thinking(request);
    } else if (!level.empty()) {
        inputs.chat_template_kwargs["reasoning_effort"] = json_quoted(level);
    }
}

void disable_thinking(chat_request & request) {
    auto & inputs = request.inputs;
    inputs.enable_thinking = false;
    inputs.chat_template_kwargs.erase("reasoning_effort");
    inputs.chat_template_kwargs.erase("enable_thinking");
}

}  // namespace pyllama
