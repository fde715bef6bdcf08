#include "device_fit.h"

#include <algorithm>
#include <mutex>

#include "backends.h"
#include "fit.h"
#include "log_sink.h"
#include "projector.h"

namespace pyllama {

namespace {

// What is left free on a device is for the projector, too, which is loaded behind the model.
void leave_room_for_projector(common_params & params) {
    for (const auto & [device, n_bytes] : projector::memory(params)) {
        for (size_t i = 0; i < std::min(ggml_backend_dev_count(), params.fit_params_target.size()); ++i) {
            params.fit_params_target[i] += ggml_backend_dev_get(i) == device ? n_bytes : 0;
        }
    }
}

}  // namespace

void fit_to_devices(common_params & params) {
    load_backends();
    const bool has_gpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_GPU) != nullptr ||
                         ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_IGPU) != nullptr;
    if (!params.fit_params || !has_gpu || params.model.path.empty()) {
        return;
    }
    static std::mutex one_at_a_time;
    const std::lock_guard<std::mutex> lock(one_at_a_time);
    install_log();
    leave_room_for_projector(params);
    llama_model_params model_params = common_model_params_to_llama(params);
    llama_context_params context_params = common_context_params_to_llama(params);
    common_fit_params(params.model.path.c_str(), &model_params, &context_params, params.tensor_split,
                      params.tensor_buft_overrides.data(), params.fit_params_target.data(),
                      static_cast<uint32_t>(params.fit_params_min_ctx), nullptr, GGML_LOG_LEVEL_ERROR);
    // tensor_split and the buffer overrides were changed in place.
    params.n_gpu_layers = model_params.n_gpu_layers;
    params.n_ctx = static_cast<int32_t>(context_params.n_ctx);
}

}  // namespace pyllama
