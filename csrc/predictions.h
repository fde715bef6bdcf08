// Vertex AI's prediction requests: {"instances":[{"@requestFormat":"chatCompletions",...},...]} taken apart into the
// requests they carry. Pure: any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pyllama {

struct prediction_limits {
    static constexpr size_t n_instances = 128;
};

struct prediction_instance {
    std::string format;   // names the endpoint
    std::string body;     // the instance without the format; it never streams
    std::string problem;  // why it is no instance; empty when it is one
};

// Throws error(invalid_request) for a body that carries no list of at most n_instances.
std::vector<prediction_instance> split_predictions(std::string_view body);

}  // namespace pyllama
