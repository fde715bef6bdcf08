#include "params_json.h"

#include <filesystem>
#include <vector>

#include "hf-cache.h"
#include "json.h"

namespace pyllama {

std::string params_json(const server_params & params) {
    const common_params & c = params.common;
    const common_json json = {
        {"host", c.hostnames},
        {"port", c.port},
        {"api_keys", c.api_keys},
        {"api_prefix", c.api_prefix},
        {"cors_origins", c.cors_origins},
        {"cors_methods", c.cors_methods},
        {"cors_headers", c.cors_headers},
        {"cors_credentials", c.cors_credentials},
        {"sse_ping_interval", c.sse_ping_interval},
        {"timeout_read", c.timeout_read},
        {"threads_http", c.n_threads_http},
        {"model_path", c.model.path},
        {"model_source", c.model.get_name()},
        {"model_url", c.model.url},
        {"hf_repo", c.model.hf_repo},
        {"hf_file", c.model.hf_file},
        {"hf_token", c.hf_token},
        {"offline", c.offline},
        {"mmproj_path", c.mmproj.path},
        {"mmproj_url", c.mmproj.url},
        {"mmproj_auto", !c.no_mmproj},
        {"model_alias", c.model_alias},
        {"model_tags", c.model_tags},
        {"n_parallel", c.n_parallel},
        {"n_ctx", c.n_ctx},
        {"n_batch", c.n_batch},
        {"n_ubatch", c.n_ubatch},
        {"kv_unified", c.kv_unified},
        {"endpoint_slots", c.endpoint_slots},
        {"endpoint_props", c.endpoint_props},
        {"endpoint_metrics", c.endpoint_metrics},
        {"slot_save_path", c.slot_save_path},
        {"ssl_file_key", c.ssl_file_key},
        {"ssl_file_cert", c.ssl_file_cert},
        {"reuse_port", c.reuse_port},
        {"ui", c.ui},
        {"ui_config", c.ui_config_json},
        {"static_path", c.public_path},
        {"tools", c.server_tools},
        {"log_prompts_dir", c.path_prompts_log_dir},
        {"embeddings", c.embedding},
        {"verbosity", c.verbosity},
        {"max_queue", params.max_queue},
        {"key_priority", params.key_priority},
        {"step_budget_ms", params.step_budget_ms},
        {"max_body_bytes", params.max_body_bytes},
        {"shutdown_timeout", params.shutdown_timeout},
        {"write_timeout", params.write_timeout},
        {"pause_timeout", params.pause_timeout},
        {"max_paused", params.max_paused},
        {"stream_buffer_bytes", params.stream_buffer_bytes},
        {"stream_retention", params.stream_retention},
        {"max_streams", params.max_streams},
        {"max_stream_bytes", params.max_stream_bytes},
        {"media_urls", params.media_urls},
        {"max_sockets", params.max_sockets},
        {"max_socket_requests", params.max_socket_requests},
        {"max_socket_message", params.max_socket_message},
        {"queue_timeout", params.queue_timeout},
    };
    return json.dump_safe();
}

std::string hub_json() {
    const common_json json = {
        {"endpoint", common_get_model_endpoint()},
        {"hub_cache", hf_cache::get_cache_path()},
        {"file_cache", fs_path_to_utf8(fs_get_cache_directory())},
    };
    return json.dump_safe();
}

std::string flags_json() {
    common_json list = common_json::array();
    for (const flag_facts & flag : known_flags()) {
        list.push_back({{"names", flag.names},
                        {"negated", flag.negated},
                        {"values", flag.values},
                        {"environment", flag.environment},
                        {"help", flag.help},
                        {"group", flag.group}});
    }
    return list.dump_safe();
}

void set_model_path(server_params & params, const std::string & path) {
    const bool named = !params.common.model.get_name().empty();  // by a repository, for example
    params.common.model.path = path;
    if (params.common.model_alias.empty() && !named) {
        params.common.model_alias.insert(std::filesystem::path(path).stem().string());
    }
}

void set_projector_path(server_params & params, const std::string & path) {
    params.common.mmproj.path = path;
}

}  // namespace pyllama
