#include "lora_file.h"

#include <map>
#include <memory>
#include <string_view>
#include <utility>

#include "errors.h"
#include "model_tensors.h"

namespace pyllama {

namespace {

struct matrix_pair {
    const ggml_tensor * a = nullptr;
    const ggml_tensor * b = nullptr;
};

[[noreturn]] void refuse(const std::string & path, const std::string & reason) {
    throw error(error_kind::model_load, "cannot load the LoRA adapter '" + path + "': " + reason);
}

bool remove_suffix(std::string & name, std::string_view suffix) {
    if (name.size() < suffix.size() || name.compare(name.size() - suffix.size(), suffix.size(), suffix) != 0) {
        return false;
    }
    name.resize(name.size() - suffix.size());
    return true;
}

// llama.cpp reads these without asking for their type.
void check_metadata(const gguf_context * file, const std::string & path) {
    const std::pair<const char *, gguf_type> wanted[] = {
        {"general.type", GGUF_TYPE_STRING},
        {"general.architecture", GGUF_TYPE_STRING},
        {"adapter.type", GGUF_TYPE_STRING},
        {"adapter.lora.alpha", GGUF_TYPE_FLOAT32},
    };
    for (const auto & [key, type] : wanted) {
        const int64_t id = gguf_find_key(file, key);
        if (id >= 0 && gguf_get_kv_type(file, id) != type) {
            refuse(path, std::string(key) + " must be a " + gguf_type_name(type));
        }
    }
}

std::map<std::string, matrix_pair> pairs_of(ggml_context * tensors) {
    std::map<std::string, matrix_pair> pairs;
    for (ggml_tensor * tensor = ggml_get_first_tensor(tensors); tensor != nullptr;
         tensor = ggml_get_next_tensor(tensors, tensor)) {
        std::string name = tensor->name;
        if (remove_suffix(name, ".lora_a")) {
            pairs[name].a = tensor;
        } else if (remove_suffix(name, ".lora_b")) {
            pairs[name].b = tensor;
        }
    }
    return pairs;
}

bool can_multiply(ggml_type type) {
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16 || ggml_is_quantized(type);
}

void check_pair(const std::string & name, const matrix_pair & pair, const ggml_tensor & weight,
                const std::string & path) {
    const std::string quoted = "'" + name + "' ";
    if (pair.a == nullptr || pair.b == nullptr) {
        refuse(path, quoted + "has only one of its two matrices");
    }
    if (!can_multiply(pair.a->type) || !can_multiply(pair.b->type)) {
        refuse(path, quoted + "is of a number format that cannot be multiplied");
    }
    // The rank is the dimension that both share.
    const bool shared_rank =
        name == "token_embd.weight" ? pair.a->ne[0] == pair.b->ne[0] : pair.a->ne[1] == pair.b->ne[0];
    if (!shared_rank || pair.a->ne[2] != weight.ne[2] || pair.b->ne[2] != weight.ne[2] || pair.a->ne[3] != 1 ||
        pair.b->ne[3] != 1) {
        refuse(path, quoted + "has another shape than the model's (is it made for another model?)");
    }
}

}  // namespace

void check_lora_file(const llama_model * model, const std::string & path) {
    ggml_context * raw = nullptr;
    const std::unique_ptr<gguf_context, decltype(&gguf_free)> file(
        gguf_init_from_file(path.c_str(), {/* no_alloc = */ true, /* ctx = */ &raw}), &gguf_free);
    const std::unique_ptr<ggml_context, decltype(&ggml_free)> tensors(raw, &ggml_free);
    if (file == nullptr) {
        refuse(path, "it is no GGUF file that can be read");
    }
    check_metadata(file.get(), path);

    const auto pairs = pairs_of(tensors.get());
    if (pairs.empty()) {
        refuse(path, "it holds no LoRA matrices");
    }
    for (const auto & [name, pair] : pairs) {
        const ggml_tensor * weight = find_tensor(model, name);
        if (weight == nullptr) {
            refuse(path, "the model has no tensor '" + name + "' (is it made for another model?)");
        }
        if (name == "token_embd.weight" && find_tensor(model, "output.weight") == nullptr) {
            // llama.cpp would use the embedding's matrices, which lie the other way round, for the output too.
            refuse(path, "'token_embd.weight' is also this model's output: llama.cpp cannot adapt it");
        }
        check_pair(name, pair, *weight, path);
    }
}

}  // namespace pyllama
