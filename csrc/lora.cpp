#include "lora.h"

#include <algorithm>

#include "errors.h"
#include "log_sink.h"
#include "lora_file.h"
#include "request_json.h"

namespace pyllama {

namespace {

constexpr double most_scale = 1e6;

[[noreturn]] void refuse(const std::string & what, const std::string & path, const std::string & why) {
    throw error(error_kind::model_load, "cannot load the " + what + " '" + path + "': " + why);
}

std::string meta_value(const llama_adapter_lora * adapter, const char * key) {
    char text[1024] = {};
    return llama_adapter_meta_val_str(adapter, key, text, sizeof(text)) > 0 ? text : "";
}

}  // namespace

bool same_set(const lora_set & a, const lora_set & b) {
    return a == b || (a && b && *a == *b);
}

lora_set initial_lora(const common_params & params) {
    if (params.lora_adapters.empty()) {
        return nullptr;
    }
    std::vector<float> scales;
    for (const common_adapter_lora_info & adapter : params.lora_adapters) {
        scales.push_back(params.lora_init_without_apply ? 0.0f : adapter.scale);
    }
    return std::make_shared<const std::vector<float>>(std::move(scales));
}

lora_set read_lora(const common_json & list, size_t n_adapters, const std::string & field) {
    const std::string name = field.empty() ? "the body" : "'" + field + "'";
    if (!list.is_array()) {
        throw bad_request(name + " must be a list of objects with 'id' and 'scale'", field);
    }
    std::vector<float> scales(n_adapters);
    size_t i = 0;
    for (const common_json & entry : list) {
        const std::string at = indexed(field, i++);
        as_object(entry, at);
        const int64_t id = as_integer(required(entry, "id", at), at + ".id", 0, INT32_MAX);
        if (static_cast<size_t>(id) >= n_adapters) {
            throw bad_request(name + " names adapter " + std::to_string(id) + ", and there are " +
                                  std::to_string(n_adapters) + " (--lora)",
                              field);
        }
        scales[static_cast<size_t>(id)] =
            static_cast<float>(as_number(required(entry, "scale", at), at + ".scale", -most_scale, most_scale));
    }
    return n_adapters == 0 ? nullptr : std::make_shared<const std::vector<float>>(std::move(scales));
}

std::string lora_json(const common_params & params, const lora_set & set) {
    common_json list = common_json::array();
    for (size_t i = 0; i < params.lora_adapters.size(); ++i) {
        const common_adapter_lora_info & adapter = params.lora_adapters[i];
        list.push_back(common_json{{"id", i},
                                   {"path", adapter.path},
                                   {"scale", set->at(i)},
                                   {"task_name", adapter.task_name},
                                   {"prompt_prefix", adapter.prompt_prefix}});
    }
    return list.dump_safe();
}

void load_adapters(llama_model * model, common_params & params) {
    for (common_adapter_lora_info & adapter : params.lora_adapters) {
        check_lora_file(model, adapter.path);
        const log_capture logged;
        adapter.ptr = llama_adapter_lora_init(model, adapter.path.c_str());
        if (adapter.ptr == nullptr) {
            refuse("LoRA adapter", adapter.path, logged.text().empty() ? "llama.cpp refuses it" : logged.text());
        }
        if (llama_adapter_get_alora_n_invocation_tokens(adapter.ptr) > 0) {
            refuse("LoRA adapter", adapter.path,
                   "it is an activated LoRA, which works from certain tokens on: that is not supported");
        }
        adapter.task_name = meta_value(adapter.ptr, "adapter.lora.task_name");
        adapter.prompt_prefix = meta_value(adapter.ptr, "adapter.lora.prompt_prefix");
    }
}

void apply_lora(llama_context * context, const common_params & params, const lora_set & set) {
    std::vector<llama_adapter_lora *> adapters;
    std::vector<float> scales;
    for (size_t i = 0; set && i < set->size(); ++i) {
        if (set->at(i) != 0.0f) {
            adapters.push_back(params.lora_adapters[i].ptr);
            scales.push_back(set->at(i));
        }
    }
    llama_set_adapters_lora(context, adapters.data(), adapters.size(), scales.data());
}

void apply_control_vectors(llama_context * context, const common_params & params) {
    if (params.control_vectors.empty()) {
        return;
    }
    const std::string & first_file = params.control_vectors.front().fname;
    const llama_model * model = llama_get_model(context);
    const int32_t n_layer = llama_model_n_layer(model);
    const int32_t n_embd = llama_model_n_embd(model);
    const common_control_vector_data vectors = common_control_vector_load(params.control_vectors);
    if (vectors.n_embd == -1) {
        refuse("control vector", first_file, "one of the files holds no usable directions");
    }
    if (vectors.n_embd != n_embd) {
        refuse("control vector", first_file,
               "its directions have " + std::to_string(vectors.n_embd) + " numbers, the model's layers " +
                   std::to_string(n_embd));
    }
    const int32_t first = params.control_vector_layer_start > 0 ? params.control_vector_layer_start : 1;
    const int32_t last = params.control_vector_layer_end > 0 ? params.control_vector_layer_end : n_layer;
    // llama.cpp takes what lies beyond the last layer's vector as it is.
    const size_t n_values = std::min(vectors.data.size(), static_cast<size_t>(n_embd) * (n_layer - 1));
    if (llama_set_adapter_cvec(context, vectors.data.data(), n_values, n_embd, first, last) != 0) {
        refuse("control vector", first_file, "llama.cpp refuses it");
    }
}

}  // namespace pyllama
