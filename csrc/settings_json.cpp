#include "settings_json.h"

#include <cmath>

#include "json.h"
#include "sampling.h"

namespace pyllama {

std::string settings_json(const generation_params & params) {
    const common_params_sampling & s = params.sampling;
    common_json samplers = common_json::array();
    for (const auto type : s.samplers) {
        samplers.push_back(common_sampler_type_to_str(type));
    }
    common_json stop = common_json::array();
    for (const auto & word : params.stop) {
        stop.push_back(word);
    }
    common_json biases = common_json::array();
    for (const auto & bias : s.logit_bias) {
        common_json entry = {{"token", bias.token}};
        // JSON knows no infinity: null means never.
        entry["bias"] = std::isfinite(bias.bias) ? common_json(bias.bias) : common_json(nullptr);
        biases.push_back(entry);
    }
    common_json json = {
        {"seed", s.seed},
        {"temperature", s.temp},
        {"dynatemp_range", s.dynatemp_range},
        {"dynatemp_exponent", s.dynatemp_exponent},
        {"top_k", s.top_k},
        {"top_p", s.top_p},
        {"min_p", s.min_p},
        {"top_n_sigma", s.top_n_sigma},
        {"xtc_probability", s.xtc_probability},
        {"xtc_threshold", s.xtc_threshold},
        {"typical_p", s.typ_p},
        {"repeat_last_n", s.penalty_last_n},
        {"repeat_penalty", s.penalty_repeat},
        {"presence_penalty", s.penalty_present},
        {"frequency_penalty", s.penalty_freq},
        {"dry_multiplier", s.dry_multiplier},
        {"dry_base", s.dry_base},
        {"dry_allowed_length", s.dry_allowed_length},
        {"dry_penalty_last_n", s.dry_penalty_last_n},
        {"dry_sequence_breakers", s.dry_sequence_breakers},
        {"mirostat", s.mirostat},
        {"mirostat_tau", s.mirostat_tau},
        {"mirostat_eta", s.mirostat_eta},
        {"adaptive_target", s.adaptive_target},
        {"adaptive_decay", s.adaptive_decay},
        {"max_tokens", params.n_predict},
        {"n_predict", params.n_predict},
        {"n_keep", params.n_keep},
        {"n_discard", params.n_discard},
        {"n_cache_reuse", params.n_cache_reuse},
        {"n_indent", params.n_indent},
        {"ignore_eos", s.ignore_eos},
        {"n_probs", s.n_probs},
        {"min_keep", s.min_keep},
        {"reasoning_budget_tokens", params.reasoning.budget},
        {"reasoning_control", s.reasoning_control},
        {"grammar", common_grammar_value(s.grammar)},
        {"grammar_lazy", s.grammar_lazy},
        {"timings_per_token", params.timings_per_token},
        {"post_sampling_probs", params.post_sampling_probs},
    };
    common_json lora = common_json::array();
    for (size_t i = 0; params.lora && i < params.lora->size(); ++i) {
        lora.push_back(common_json{{"id", i}, {"scale", params.lora->at(i)}});
    }
    json["lora"] = lora;
    json["stop"] = stop;
    json["logit_bias"] = biases;
    json["samplers"] = samplers;
    return json.dump_safe();
}

}  // namespace pyllama
