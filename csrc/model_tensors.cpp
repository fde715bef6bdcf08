#include "model_tensors.h"

#include <string>
#include <utility>
#include <vector>

const std::vector<std::pair<std::string, ggml_tensor *>> & llama_internal_get_tensor_map(const llama_model * model);

namespace pyllama {

const ggml_tensor * find_tensor(const llama_model * model, std::string_view name) {
    for (const auto & [each, tensor] : llama_internal_get_tensor_map(model)) {
        if (each == name) {
            return tensor;
        }
    }
    return nullptr;
}

int64_t n_learned_positions(const llama_model * model) {
    const ggml_tensor * positions = find_tensor(model, "position_embd.weight");
    return positions == nullptr ? 0 : positions->ne[1];
}

}  // namespace pyllama
