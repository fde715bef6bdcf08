// The reasoning budget's texts: its message, and a client's own tags.
#include "errors.h"
#include "request_fields.h"

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

}  // namespace pyllama
