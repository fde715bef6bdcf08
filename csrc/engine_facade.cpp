#include "engine_facade.h"

#include <algorithm>
#include <ctime>

#include "build-info.h"
#include "device_fit.h"
#include "json.h"
#include "projector.h"
#include "prompt_decision.h"
#include "prompt_embedding.h"
#include "request.h"
#include "request_json.h"
#include "settings_json.h"

namespace pyllama {

namespace {

prompt_limits limits_of(const engine & target) {
    return {target.n_ctx_slot(), target.n_slots(), target.params().reasoning_budget_soft};
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

std::string describe_props(const engine & target, const model & source) {
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
        {"modalities",
         {{"vision", source.media() && source.media()->reads_images()}, {"video", false}, {"audio", false}}},
        {"endpoint_slots", params.endpoint_slots},
        {"endpoint_props", params.endpoint_props},
        {"endpoint_metrics", params.endpoint_metrics},
        {"chat_template", common_chat_templates_source(source.templates())},
        {"bos_token", token_text(source, llama_vocab_bos(source.vocab()))},
        {"eos_token", token_text(source, llama_vocab_eos(source.vocab()))},
        {"build_info", std::string(llama_build_info())},
        {"cors_proxy_enabled", false},
    };
    if (source.media()) {
        json["media_marker"] = source.media()->marker();
    }
    json["default_generation_settings"] = defaults;
    json["chat_template_caps"] = caps;
    const std::string with_tools = common_chat_templates_source(source.templates(), "tool_use");
    if (params.use_jinja && !with_tools.empty()) {
        json["chat_template_tool_use"] = with_tools;
    }
    return json.dump_safe();
}

std::string describe_model(const engine & target, const model & source) {
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

std::shared_ptr<prepared_request> with_model(prepared_request && made, std::shared_ptr<const model> source,
                                             std::unique_ptr<arrival> on_its_way = nullptr) {
    made.model = std::move(source);
    made.on_its_way = std::move(on_its_way);
    return std::make_shared<prepared_request>(std::move(made));
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
    auto made = std::make_shared<engine>(loaded, fitted);
    made->keep_facts({describe_props(*made, *loaded), describe_model(*made, *loaded)});
    return made;
}

std::shared_ptr<prepared_request> prepare(engine & target, const std::string & body, dialect which) {
    auto on_its_way = target.expect();
    const auto source = target.shared_model();
    return with_model(prepare_chat(source, body, which, limits_of(target)), source, std::move(on_its_way));
}

std::shared_ptr<prepared_request> prepare_raw(engine & target, const std::string & body, dialect which) {
    auto on_its_way = target.expect();
    const auto source = target.shared_model();
    return with_model(prepare_completion(source, body, which, limits_of(target)), source, std::move(on_its_way));
}

std::shared_ptr<prepared_request> prepare_fill(engine & target, const std::string & body) {
    auto on_its_way = target.expect();
    const auto source = target.shared_model();
    return with_model(prepare_infill(source, body, limits_of(target)), source, std::move(on_its_way));
}

std::shared_ptr<prepared_request> prepare_embeddings(engine & target, const std::string & body, dialect which) {
    const auto source = target.shared_model();
    return with_model(prepare_embedding(*source, body, which, target.embeddings()), source);
}

std::shared_ptr<prepared_request> prepare_ranks(engine & target, const std::string & body) {
    const auto source = target.shared_model();
    return with_model(prepare_rerank(*source, body, target.embeddings()), source);
}

std::shared_ptr<prepared_request> prepare_decisions(engine & target, const std::string & body) {
    const auto source = target.shared_model();
    return with_model(prepare_decision(source, body, limits_of(target), target.embeddings()), source);
}

std::string answer_text(engine & target, text_request kind, const std::string & body) {
    return answer(*target.shared_model(), kind, body);
}

std::string content_type(const prepared_request & prepared) {
    return std::string(prepared.writer->content_type());
}

submitted submit(engine & target, prepared_request & prepared, const std::string & owner,
                 std::optional<int32_t> priority) {
    prepared.owner = owner;
    prepared.params.priority =
        std::min(prepared.priority.value_or(priority.value_or(0)), priority.value_or(priority_limits::most));
    return target.submit(std::move(prepared));
}

int32_t queue_position(const submitted & handle) {
    if (!handle.control || handle.session->state() == session_state::finished) {
        return -1;
    }
    return handle.control->group->queue_position.load(std::memory_order_relaxed);
}

std::string metrics_json(engine & target) {
    common_json json = common_json::object();
    for (const auto & [name, value] : target.metrics().snapshot()) {
        json[name] = value;
    }
    json["service_seconds"] = target.service().seconds();
    const byte_budget & budget = target.budget();
    json["memory_bytes"] = budget.used();
    json["memory_limit_bytes"] = budget.limit();
    json["stream_bytes"] = budget.used(memory_part::streams);
    json["cache_bytes"] = budget.used(memory_part::prefixes);
    json["checkpoint_bytes"] = budget.used(memory_part::checkpoints);
    json["parked_bytes"] = budget.used(memory_part::parked);
    json["stream_evictions"] = budget.n_evicted();
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
            {"id", info.id},
            {"n_ctx", info.n_ctx},
            {"speculative", false},
            {"is_processing", info.busy},
            {"state", info.state},
            {"n_cached", info.n_cached},
            {"n_shared", info.n_shared},
        };
        if (info.taken.n > 0) {
            const char * source = info.taken.from_host ? "host" : info.taken.id_slot < 0 ? "slot" : "shared";
            entry["prefix"] = {{"n_tokens", info.taken.n}, {"source", source}};
            if (info.taken.id_slot >= 0) {
                entry["prefix"]["id_slot"] = info.taken.id_slot;
            }
        }
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
    common_json json = common_json::parse(target.facts().props);
    json["is_sleeping"] = target.sleeping();
    return json.dump_safe();
}

std::string model_info_json(engine & target) {
    return target.facts().info;
}

std::string lora_adapters_json(engine & target) {
    return lora_json(target.shared_model()->params(), target.lora());
}

void set_lora_adapters(engine & target, const std::string & body) {
    const auto source = target.shared_model();
    check_json_depth(body, request_limits::json_depth, "");
    common_json list;
    try {
        list = common_json::parse(body);
    } catch (const std::exception &) {
        throw bad_request("the request body is not valid JSON");
    }
    if (!list.is_array()) {
        throw bad_request("Request body must be an array");
    }
    target.set_lora(read_lora(list, source->params().lora_adapters.size(), ""));
}

std::string slot_action_json(engine & target, int32_t id, slot_action action, const std::string & body) {
    if (action == slot_action::erase) {
        const slot_action_result done = target.erase_slot(id);
        return common_json{{"id_slot", id}, {"n_erased", done.n_tokens}}.dump_safe();
    }
    const common_json request = parse_body(body);
    const std::string filename = as_string(required(request, "filename", ""), "filename");
    common_json json = {{"id_slot", id}, {"filename", filename}};
    if (action == slot_action::save) {
        const slot_action_result done = target.save_slot(id, filename);
        json["n_saved"] = done.n_tokens;
        json["n_written"] = done.n_bytes;
        json["timings"] = common_json{{"save_ms", done.ms}};
    } else {
        const slot_action_result done = target.restore_slot(id, filename);
        json["n_restored"] = done.n_tokens;
        json["n_read"] = done.n_bytes;
        json["timings"] = common_json{{"restore_ms", done.ms}};
    }
    return json.dump_safe();
}

void raise_failure(const stream_session & session) {
    if (const auto reason = session.failure()) {
        throw error(*reason);
    }
}

}  // namespace pyllama
