#include "predictions.h"

#include "errors.h"
#include "request_json.h"

namespace pyllama {

namespace {

constexpr const char * format_member = "@requestFormat";

prediction_instance read_instance(const common_json & value) {
    prediction_instance instance;
    if (!value.is_object()) {
        instance.problem = "each instance must be a JSON object";
        return instance;
    }
    const common_json * format = find_field(value, format_member);
    if (format == nullptr || !format->is_string()) {
        instance.problem = "each instance must have '@requestFormat', a string";
        return instance;
    }
    instance.format = format->get<std::string>();
    common_json request = value;
    request.erase(format_member);
    for (const char * streams : {"stream", "background"}) {
        if (request.contains(streams)) {
            request.erase(streams);
        }
    }
    instance.body = request.dump();
    return instance;
}

}  // namespace

std::vector<prediction_instance> split_predictions(std::string_view body) {
    const common_json parsed = parse_body(body);
    const common_json & values = as_array(required(parsed, "instances", ""), "instances");
    if (values.size() > prediction_limits::n_instances) {
        throw bad_request("'instances' has more than " + std::to_string(prediction_limits::n_instances) + " entries",
                          "instances");
    }
    std::vector<prediction_instance> instances;
    instances.reserve(values.size());
    for (const common_json & value : values) {
        instances.push_back(read_instance(value));
    }
    return instances;
}

}  // namespace pyllama
