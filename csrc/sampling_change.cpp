#include "sampling_change.h"

#include <algorithm>

#include "errors.h"
#include "prompt_settings.h"
#include "random_id.h"
#include "request_fields.h"

namespace pyllama {

namespace {

// What the end-of-generation tokens got from ignore_eos.
void drop_eos_biases(common_params_sampling & sampling) {
    const auto & eog = sampling.logit_bias_eog;
    const auto from_ignore_eos = [&](const llama_logit_bias & bias) {
        return std::any_of(eog.begin(), eog.end(), [&](const llama_logit_bias & each) {
            return each.token == bias.token && each.bias == bias.bias;
        });
    };
    auto & biases = sampling.logit_bias;
    biases.erase(std::remove_if(biases.begin(), biases.end(), from_ignore_eos), biases.end());
}

}  // namespace

std::shared_ptr<sampling_change> make_sampling_change(const model & model, const common_json & fields,
                                                      const generation_params & current, int32_t n_ctx_slot) {
    generation_request request;
    request.sampling = current.sampling;
    request.random_seed = false;
    request.n_predict = current.n_predict;
    request.t_max_predict_ms = current.t_max_predict_ms;
    if (request.sampling.ignore_eos) {
        drop_eos_biases(request.sampling);
    }
    read_changes(model, fields, request);

    auto change = std::make_shared<sampling_change>();
    change->seeded = find_field(fields, "seed") != nullptr;
    change->params = current;
    generation_params & params = change->params;
    params.sampling = std::move(request.sampling);
    if (change->seeded) {
        params.sampling.seed = (request.random_seed ? random_seed() : params.sampling.seed) + params.seed_offset;
    }
    limit_memory(params.sampling, n_ctx_slot);
    params.n_predict = request.n_predict;
    params.t_max_predict_ms = request.t_max_predict_ms;
    if (find_field(fields, "stop") != nullptr) {
        params.stop = std::move(request.stop);
        params.stop.insert(params.stop.end(), params.template_stop.begin(), params.template_stop.end());
    }

    generation_params alone;
    alone.sampling = params.sampling;
    alone.sampling.grammar = {};
    change->chain = std::make_unique<slot_sampler>(model.vocab(), alone);
    return change;
}

}  // namespace pyllama
