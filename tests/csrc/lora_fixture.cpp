#include "lora_fixture.h"

#include <unistd.h>

#include <filesystem>

#include "check.h"
#include "engine_fixture.h"
#include "ggml-cpp.h"
#include "gguf.h"
#include "model_tensors.h"

namespace pyllama_test {

namespace {

constexpr int64_t rank = 4;

ggml_tensor * add_matrix(ggml_context * tensors, const std::string & name, int64_t n_in, int64_t n_out, float most,
                         random_source & random) {
    ggml_tensor * made = ggml_new_tensor_2d(tensors, GGML_TYPE_F32, n_in, n_out);
    ggml_set_name(made, name.c_str());
    auto * values = static_cast<float *>(made->data);
    for (int64_t i = 0; i < ggml_nelements(made); ++i) {
        values[i] = most * (static_cast<float>(random.below(2001)) / 1000.0f - 1.0f);
    }
    return made;
}

}  // namespace

void write_adapter(const std::string & path, uint32_t seed, float strength) {
    random_source random(seed);
    const gguf_context_ptr file(gguf_init_empty());
    const ggml_context_ptr tensors(ggml_init({size_t{1} << 22, nullptr, false}));
    gguf_set_val_str(file.get(), "general.type", "adapter");
    gguf_set_val_str(file.get(), "general.architecture", "qwen3");
    gguf_set_val_str(file.get(), "adapter.type", "lora");
    gguf_set_val_str(file.get(), "adapter.lora.task_name", "noise");
    gguf_set_val_f32(file.get(), "adapter.lora.alpha", static_cast<float>(rank));
    for (const char * layer : {"blk.1.ffn_down.weight", "blk.3.attn_output.weight"}) {
        const ggml_tensor * weight = pyllama::find_tensor(demo_model()->handle(), layer);
        const std::string name = layer;
        gguf_add_tensor(file.get(), add_matrix(tensors.get(), name + ".lora_a", weight->ne[0], rank, 0.2f, random));
        gguf_add_tensor(file.get(), add_matrix(tensors.get(), name + ".lora_b", rank, weight->ne[1], strength, random));
    }
    CHECK(gguf_write_to_file(file.get(), path.c_str(), false));
}

std::shared_ptr<const pyllama::model> model_with_adapters(size_t n) {
    namespace fs = std::filesystem;
    common_params params = engine_params(1, 512, true).common;
    for (size_t i = 0; i < n; ++i) {
        const std::string path =
            (fs::temp_directory_path() / ("pyllama-lora-" + std::to_string(getpid()) + "-" + std::to_string(i)))
                .string();
        write_adapter(path, static_cast<uint32_t>(i) + 1, 2.0f);
        params.lora_adapters.push_back({path, 0.0f, "", "", nullptr});
    }
    auto loaded = pyllama::model::load(params);
    for (const common_adapter_lora_info & adapter : params.lora_adapters) {
        fs::remove(adapter.path);
    }
    return loaded;
}

}  // namespace pyllama_test
