#include "engine_facade.h"

#include <ctime>

#include "build-info.h"
#include "device_fit.h"
#include "json.h"
#include "prompt_decision.h"
#include "prompt_embedding.h"
#include "settings_json.h"

namespace pyllama {

namespace {

prompt_limits limits_of(const engine & target) {
    return {target.n_ctx_slot(), target.n_slots()};
}

std::string token_text(const model & source, llama_token token) {
    return token == LLAMA_TOKEN_NULL ? std::string() : source.piece(token, true);
}

generation_params default_settings(const model & source) {
    generation_params defaults;
    defaults.sampling = source.params().sampling;
    defaults.n_predict = source.params().n_predict;
    defaults.reasoning.budget = source.params().sampling.reasoning_budget_tokens;
    return defaults;
}

}  // namespace

std::shared_ptr<engine> make_engine(const server_params & params, load_progress & progress) {
    const auto check = [&] {
        if (progress.stop) {
            throw error(error_kind::model_load, "the load of '" + params.common.model.path + "' was stopped");
        }
    };
    server_params fitted = params;
    fit_to_devices(fitted.common);
    check();
    common_params watched = fitted.common;
    progress.attach(watched);
    std::shared_ptr<model> loaded;
    try {
        loaded = model::load(std::move(watched));
    } catch (const error &) {
        check();
        throw;
    }
    check();
    if (loaded->decisions() && loaded->decisions()->marks()) {
        fitted.common.embedding = true;  // its answers are read from its outputs
        fitted.common.pooling_type = LLAMA_POOLING_TYPE_NONE;
    }
    return std::make_shared<engine>(std::move(loaded), fitted);
}

std::shared_ptr<prepared_request> prepare(engine & target, const std::string & body, dialect which) {
    return std::make_shared<prepared_request>(prepare_chat(target.shared_model(), body, which, limits_of(target)));
}

std::shared_ptr<prepared_request> prepare_raw(engine & target, const std::string & body, dialect which) {
    return std::make_shared<prepared_request>(
        prepare_completion(target.shared_model(), body, which, limits_of(target)));
}

std::shared_ptr<prepared_request> prepare_fill(engine & target, const std::string & body) {
    return std::make_shared<prepared_request>(prepare_infill(target.shared_model(), body, limits_of(target)));
}

std::shared_ptr<prepared_request> prepare_embeddings(engine & target, const std::string & body, dialect which) {
    return std::make_shared<prepared_request>(
        prepare_embedding(*target.shared_model(), body, which, target.embeddings()));
}

std::shared_ptr<prepared_request> prepare_ranks(engine & target, const std::string & body) {
    return std::make_shared<prepared_request>(prepare_rerank(*target.shared_model(), body, target.embeddings()));
}

std::shared_ptr<prepared_request> prepare_decisions(engine & target, const std::string & body) {
    return std::make_shared<prepared_request>(
        prepare_decision(target.shared_model(), body, limits_of(target), target.embeddings()));
}

std::string answer_text(engine & target, text_request kind, const std::string & body) {
    return answer(*target.shared_model(), kind, body);
}

std::string content_type(const prepared_request & prepared) {
    return std::string(prepared.writer->content_type());
}

submitted submit(engine & target, prepared_request & prepared, const std::string & owner) {
    prepared.owner = owner;
    return target.submit(std::move(prepared));
}

std::string metrics_json(engine & target) {
    common_json json = common_json::object();
    for (const auto & [name, value] : target.metrics().snapshot()) {
        json[name] = value;
    }
    json["stream_bytes"] = target.stream_budget().used();
    json["stream_evictions"] = target.stream_budget().n_evicted();
    return json.dump_safe();
}

std::string histograms_json(engine & target) {
    common_json json = common_json::object();
    for (const auto & [name, values] : target.metrics().histograms()) {
        json[name] = {{"bounds", values.bounds}, {"counts", values.counts}, {"sum", values.sum}};
    }
    return json.dump_safe();
}

std::string slots_json(engine & target) {
    common_json list = common_json::array();
    for (const slot_info & info : target.slots()) {
        common_json entry = {
            {"id", info.id},       {"n_ctx", info.n_ctx},       {"speculative", false}, {"is_processing", info.busy},
            {"state", info.state}, {"n_cached", info.n_cached},
        };
        if (info.busy) {
            entry["id_task"] = info.request_id;
            entry["choice"] = info.choice;
            entry["n_prompt_tokens"] = info.n_prompt;
            entry["n_prompt_tokens_processed"] = info.n_prompt_processed;
            entry["n_prompt_tokens_cache"] = info.n_prompt_cached;
            entry["params"] = common_json::parse(info.params);
            entry["next_token"] = common_json::array({{
                {"has_next_token", true},
                {"n_remain", info.n_remain},
                {"n_decoded", info.n_decoded},
            }});
        }
        list.push_back(entry);
    }
    return list.dump_safe();
}

std::string props_json(engine & target) {
    const model & source = *target.shared_model();
    const common_params & params = source.params();
    common_json settings = common_json::parse(settings_json(default_settings(source)));
    common_json defaults = {{"n_ctx", target.n_ctx_slot()}};
    defaults["params"] = settings;
    common_json caps = common_json::object();
    for (const auto & [name, value] : common_chat_templates_get_caps(source.templates())) {
        caps[name] = value;
    }
    common_json json = {
        {"total_slots", target.n_slots()},
        {"model_alias", source.name()},
        {"model_ftype", std::string(llama_ftype_name(llama_model_ftype(source.handle())))},
        {"model_path", params.model.path},
        {"modalities", {{"vision", false}, {"video", false}, {"audio", false}}},
        {"endpoint_slots", params.endpoint_slots},
        {"endpoint_props", params.endpoint_props},
        {"endpoint_metrics", params.endpoint_metrics},
        {"chat_template", common_chat_templates_source(source.templates())},
        {"bos_token", token_text(source, llama_vocab_bos(source.vocab()))},
        {"eos_token", token_text(source, llama_vocab_eos(source.vocab()))},
        {"build_info", std::string(llama_build_info())},
        {"is_sleeping", false},
        {"cors_proxy_enabled", false},
    };
    json["default_generation_settings"] = defaults;
    json["chat_template_caps"] = caps;
    const std::string with_tools = common_chat_templates_source(source.templates(), "tool_use");
    if (params.use_jinja && !with_tools.empty()) {
        json["chat_template_tool_use"] = with_tools;
    }
    return json.dump_safe();
}

std::string model_info_json(engine & target) {
    const model & source = *target.shared_model();
    char description[256] = {};
    llama_model_desc(source.handle(), description, sizeof(description));
    const common_json json = {
        {"vocab_type", static_cast<int>(llama_vocab_type(source.vocab()))},
        {"n_vocab", source.n_vocab()},
        {"n_ctx", target.n_ctx_slot()},
        {"n_ctx_train", llama_model_n_ctx_train(source.handle())},
        {"n_embd", llama_model_n_embd(source.handle())},
        {"n_params", llama_model_n_params(source.handle())},
        {"size", llama_model_size(source.handle())},
        {"ftype", std::string(llama_ftype_name(llama_model_ftype(source.handle())))},
        {"description", std::string(description)},
    };
    return json.dump_safe();
}

void raise_failure(const stream_session & session) {
    if (const auto reason = session.failure()) {
        throw error(*reason);
    }
}

}  // namespace pyllama
