#include "model.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>

#include "backends.h"
#include "errors.h"
#include "ggml-cpp.h"
#include "gguf.h"
#include "log_sink.h"
#include "lora.h"
#include "projector.h"
#include "sampling.h"

namespace pyllama {

namespace {

[[noreturn]] void cannot_load(const std::string & path, const std::string & why) {
    throw error(error_kind::model_load, "cannot load the model '" + path + "': " + why);
}

// The first of the errors that llama.cpp logged while it refused a file; those that follow say that it did.
std::string logged_reason(const log_capture & logged) {
    const std::string & text = logged.text();
    return text.empty() ? "llama.cpp refuses it" : text.substr(0, text.find('\n'));
}

// llama.cpp says only in its log why a file is refused, so the usual reasons are looked for first.
void check_file(const std::string & path, bool vocab_only) {
    namespace fs = std::filesystem;
    std::error_code failed;
    if (path.empty()) {
        throw error(error_kind::model_load, "no model was given (use --model)");
    }
    const auto status = fs::status(path, failed);
    if (!fs::exists(status)) {
        cannot_load(path, "the file does not exist");
    }
    if (fs::is_directory(status)) {
        cannot_load(path, "it is a directory");
    }
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        cannot_load(path, "the file cannot be read");
    }
    char magic[4] = {};
    file.read(magic, sizeof(magic));
    if (file.gcount() != sizeof(magic) || std::memcmp(magic, "GGUF", sizeof(magic)) != 0) {
        cannot_load(path, "it is not a GGUF file");
    }
    const gguf_context_ptr header(gguf_init_from_file(path.c_str(), {/*no_alloc=*/true, /*ctx=*/nullptr}));
    if (!header) {
        cannot_load(path, "its GGUF header is damaged or cut short");
    }
    const uint64_t size = fs::file_size(path, failed);
    uint64_t needed = gguf_get_data_offset(header.get());
    for (int64_t i = 0; i < gguf_get_n_tensors(header.get()); ++i) {
        const uint64_t end = gguf_get_data_offset(header.get()) + gguf_get_tensor_offset(header.get(), i) +
                             gguf_get_tensor_size(header.get(), i);
        needed = std::max(needed, end);
    }
    if (!failed && !vocab_only && size < needed) {
        cannot_load(path,
                    "the file is cut short: " + std::to_string(size) + " of " + std::to_string(needed) + " bytes");
    }
    if (!vocab_only && gguf_get_n_tensors(header.get()) == 0) {
        cannot_load(path, "it holds no weights");
    }
}

// Sampling defaults that the model's author put into the file; a flag given by the user wins.
void read_sampling_metadata(const llama_model * handle, common_params_sampling & sampling) {
    const auto text = [&](llama_model_meta_key key, uint64_t flag) -> std::string {
        char buffer[512] = {};
        const bool set_by_user = (sampling.user_sampling_config & flag) != 0;
        if (set_by_user ||
            llama_model_meta_val_str(handle, llama_model_meta_key_str(key), buffer, sizeof(buffer)) <= 0) {
            return {};
        }
        return buffer;
    };
    const auto number = [&](llama_model_meta_key key, auto & field, uint64_t flag) {
        const std::string value = text(key, flag);
        char * end = nullptr;
        const double parsed = std::strtod(value.c_str(), &end);
        if (end != value.c_str() && std::isfinite(parsed) && std::abs(parsed) < 1e9) {
            field = static_cast<std::decay_t<decltype(field)>>(parsed);
        }
    };
    const std::string sequence = text(LLAMA_MODEL_META_KEY_SAMPLING_SEQUENCE, COMMON_PARAMS_SAMPLING_CONFIG_SAMPLERS);
    if (!sequence.empty()) {
        sampling.samplers = common_sampler_types_from_names(string_split<std::string>(sequence, ';'));
    }
    number(LLAMA_MODEL_META_KEY_SAMPLING_TOP_K, sampling.top_k, COMMON_PARAMS_SAMPLING_CONFIG_TOP_K);
    number(LLAMA_MODEL_META_KEY_SAMPLING_TOP_P, sampling.top_p, COMMON_PARAMS_SAMPLING_CONFIG_TOP_P);
    number(LLAMA_MODEL_META_KEY_SAMPLING_MIN_P, sampling.min_p, COMMON_PARAMS_SAMPLING_CONFIG_MIN_P);
    number(LLAMA_MODEL_META_KEY_SAMPLING_XTC_PROBABILITY, sampling.xtc_probability,
           COMMON_PARAMS_SAMPLING_CONFIG_XTC_PROBABILITY);
    number(LLAMA_MODEL_META_KEY_SAMPLING_XTC_THRESHOLD, sampling.xtc_threshold,
           COMMON_PARAMS_SAMPLING_CONFIG_XTC_THRESHOLD);
    number(LLAMA_MODEL_META_KEY_SAMPLING_TEMP, sampling.temp, COMMON_PARAMS_SAMPLING_CONFIG_TEMP);
    number(LLAMA_MODEL_META_KEY_SAMPLING_PENALTY_LAST_N, sampling.penalty_last_n,
           COMMON_PARAMS_SAMPLING_CONFIG_PENALTY_LAST_N);
    number(LLAMA_MODEL_META_KEY_SAMPLING_PENALTY_REPEAT, sampling.penalty_repeat,
           COMMON_PARAMS_SAMPLING_CONFIG_PENALTY_REPEAT);
    number(LLAMA_MODEL_META_KEY_SAMPLING_MIROSTAT, sampling.mirostat, COMMON_PARAMS_SAMPLING_CONFIG_MIROSTAT);
    number(LLAMA_MODEL_META_KEY_SAMPLING_MIROSTAT_TAU, sampling.mirostat_tau,
           COMMON_PARAMS_SAMPLING_CONFIG_MIROSTAT_TAU);
    number(LLAMA_MODEL_META_KEY_SAMPLING_MIROSTAT_ETA, sampling.mirostat_eta,
           COMMON_PARAMS_SAMPLING_CONFIG_MIROSTAT_ETA);
}

}  // namespace

std::shared_ptr<model> model::load(common_params params) {
    return load(std::move(params), false);
}

std::shared_ptr<model> model::load_vocab(common_params params) {
    return load(std::move(params), true);
}

std::shared_ptr<model> model::load(common_params && params, bool vocab_only) {
    install_log();
    load_backends();
    static std::once_flag initialised;
    std::call_once(initialised, [&params] {
        llama_backend_init();
        llama_numa_init(params.numa);  // of the process: the first model decides
    });

    const std::string path = params.model.path;
    const log_capture logged;  // what is logged is the reason of our own error, and goes nowhere else
    check_file(path, vocab_only);

    std::shared_ptr<model> loaded(new model());
    loaded->params_ = std::move(params);
    // llama.cpp asserts that both lists end with an empty entry.
    common_params & own = loaded->params_;
    if (!own.kv_overrides.empty() && own.kv_overrides.back().key[0] != 0) {
        own.kv_overrides.emplace_back();
        own.kv_overrides.back().key[0] = 0;
    }
    if (!own.tensor_buft_overrides.empty() && own.tensor_buft_overrides.back().pattern != nullptr) {
        own.tensor_buft_overrides.push_back({nullptr, nullptr});
    }
    llama_model_params model_params = common_model_params_to_llama(own);
    model_params.vocab_only = vocab_only;
    try {
        loaded->handle_ = llama_model_load_from_file(path.c_str(), model_params);
    } catch (const std::exception & e) {
        cannot_load(path, e.what());
    }
    own.load_progress_callback = nullptr;  // its object lives as long as the load
    own.load_progress_callback_user_data = nullptr;
    if (loaded->handle_ == nullptr) {
        cannot_load(path, logged_reason(logged));
    }
    if (!vocab_only) {
        load_adapters(loaded->handle_, own);
        loaded->media_ = projector::load(loaded->handle_, own);
    }
    loaded->read_vocab();
    loaded->read_templates();
    loaded->decisions_ = decision_rules::read(loaded->handle_);
    loaded->name_ = own.model_alias.empty() ? own.model.get_name() : *own.model_alias.begin();
    return loaded;
}

model::~model() {
    llama_model_free(handle_);
}

void model::read_vocab() {
    vocab_ = llama_model_get_vocab(handle_);
    n_vocab_ = llama_vocab_n_tokens(vocab_);
    if (llama_vocab_type(vocab_) == LLAMA_VOCAB_TYPE_NONE) {
        cannot_load(params_.model.path, "it holds no vocabulary");
    }
    common_params_sampling & sampling = params_.sampling;
    read_sampling_metadata(handle_, sampling);
    sampling.logit_bias_eog.clear();
    for (llama_token token = 0; token < n_vocab_; ++token) {
        max_token_bytes_ = std::max(max_token_bytes_, piece(token, true).size());
        if (llama_vocab_is_eog(vocab_, token)) {
            sampling.logit_bias_eog.push_back({token, -INFINITY});
        }
    }
}

void model::read_templates() {
    try {
        templates_ = common_chat_templates_init(handle_, params_.chat_template);
    } catch (const std::exception &) {
        // llama-common reports no more than "std::exception": parse once more for the reason.
        std::string why = "it cannot be parsed";
        try {
            const char * built_in = llama_model_chat_template(handle_, nullptr);
            const std::string & given = params_.chat_template;
            common_chat_template parsed(!given.empty() ? given : built_in != nullptr ? built_in : "", "", "");
        } catch (const std::exception & e) {
            why = e.what();
        }
        throw error(error_kind::model_load, "the chat template of '" + params_.model.path + "' is unusable: " + why);
    }
    try {
        thinks_ = params_.use_jinja && params_.enable_reasoning != 0 &&
                  common_chat_templates_support_enable_thinking(templates_.get());
    } catch (const std::exception &) {
        thinks_ = false;  // a template that cannot render a lone user message; requests will say so
    }
    thinking_style_ = find_reasoning_style(templates_.get(), params_.use_jinja);
}

std::string model::piece(llama_token token, bool special) const {
    return common_token_to_piece(vocab_, token, special);
}

}  // namespace pyllama
