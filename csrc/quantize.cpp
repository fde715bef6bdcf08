#include "quantize.h"

#include <chrono>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <utility>

#include "errors.h"
#include "imatrix-loader.h"
#include "log_sink.h"

namespace pyllama {

importance_matrix load_importance_matrix(const std::string & path) {
    common_imatrix loaded;
    if (!common_imatrix_load(path, loaded)) {
        throw bad_request("imatrix='" + path + "' cannot be read as an importance matrix", "imatrix");
    }
    importance_matrix result;
    for (auto & [name, entry] : loaded.entries) {
        std::vector<float> & values = result[name];
        values = std::move(entry.sums);
        const size_t n_groups = loaded.is_legacy ? 1 : entry.counts.size();
        if (entry.counts.empty() || values.size() % n_groups != 0) {
            continue;
        }
        const size_t n_columns = values.size() / n_groups;
        for (size_t i = 0; i < values.size(); ++i) {
            const auto count = static_cast<float>(entry.counts[i / n_columns]);
            if (count > 0) {
                values[i] /= count;
            } else if (!loaded.is_legacy) {
                values[i] = 1;  // an expert that was never used
            }
        }
    }
    return result;
}

quantization::quantization(std::string source, std::string destination, quantize_options options)
    : source_(std::move(source)),
      destination_(std::move(destination)),
      options_(std::move(options)),
      ended_(promise_.get_future()) {
    thread_options thread;
    thread.name = "pyllama-quant";
    thread_ = named_thread(thread, [this] {
        try {
            promise_.set_value(run());
        } catch (...) {
            promise_.set_exception(std::current_exception());
        }
    });
}

quantization::~quantization() {
    cancel();
    thread_.join();
}

bool quantization::wait(int32_t milliseconds) {
    return ended_.wait_for(std::chrono::milliseconds(milliseconds)) == std::future_status::ready;
}

float quantization::progress() const {
    return progress_;
}

void quantization::cancel() {
    cancelled_ = true;
}

std::string quantization::failure() {
    return ended_.get();
}

// llama_model_quantize has no way to be stopped or watched but its log, which says "[  3/ 291] name ..." in front
// of each tensor. An exception from there passes through llama.cpp's C++ only, and becomes its failure.
void quantization::on_text(const char * text) {
    int index = 0;
    int n = 0;
    if (std::sscanf(text, "[%d/%d]", &index, &n) != 2 || n <= 0) {
        return;
    }
    progress_ = static_cast<float>(index) / static_cast<float>(n);
    if (cancelled_) {
        throw std::runtime_error("cancelled");
    }
}

std::string quantization::run() {
    std::vector<llama_model_imatrix_data> entries;
    for (const auto & [name, values] : options_.imatrix) {
        entries.push_back({name.c_str(), values.data(), values.size()});
    }
    entries.push_back({nullptr, nullptr, 0});

    llama_model_quantize_params params = llama_model_quantize_default_params();
    params.nthread = options_.n_threads;
    params.ftype = static_cast<llama_ftype>(options_.ftype);
    params.output_tensor_type = static_cast<ggml_type>(options_.output_type);
    params.token_embedding_type = static_cast<ggml_type>(options_.embedding_type);
    params.allow_requantize = options_.allow_requantize;
    params.quantize_output_tensor = options_.quantize_output;
    params.pure = options_.pure;
    params.imatrix = options_.imatrix.empty() ? nullptr : entries.data();

    const log_capture capture;
    const log_watch watch([this](const char * text) { on_text(text); });
    const uint32_t code = llama_model_quantize(source_.c_str(), destination_.c_str(), &params);
    if (code == 0) {
        return {};
    }
    // It may explain itself at length before the line that says why.
    const std::string & log = capture.text();
    const std::string mark = "failed to quantize: ";
    const size_t at = log.rfind(mark);
    if (at != std::string::npos && at + mark.size() < log.size()) {
        return log.substr(at + mark.size());
    }
    return log.empty() ? "llama.cpp gives no reason" : log;
}

}  // namespace pyllama
