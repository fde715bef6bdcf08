// Writing a model file anew in other number formats. The work is done on a thread of its own, so that the caller can
// poll, and cancel between two tensors.
#pragma once

#include <atomic>
#include <cstdint>
#include <future>
#include <map>
#include <string>
#include <vector>

#include "llama.h"
#include "thread.h"

namespace pyllama {

using importance_matrix = std::map<std::string, std::vector<float>>;  // by tensor; one value per column and expert

// Reads what llama-imatrix wrote. Any thread. Throws error(invalid_request) naming `imatrix`.
importance_matrix load_importance_matrix(const std::string & path);

struct quantize_options {
    int32_t ftype = LLAMA_FTYPE_MOSTLY_Q8_0;
    int32_t n_threads = 1;
    int32_t output_type = GGML_TYPE_COUNT;     // of output.weight; COUNT leaves it to the ftype
    int32_t embedding_type = GGML_TYPE_COUNT;  // of token_embd.weight
    bool allow_requantize = false;
    bool quantize_output = true;
    bool pure = false;  // all tensors in the ftype's default format
    importance_matrix imatrix;
};

// One owner: its methods are for one thread at a time.
class quantization {
  public:
    // Starts. `destination` is overwritten, and holds rubbish after a failure.
    quantization(std::string source, std::string destination, quantize_options options);
    ~quantization();  // cancels and waits

    bool wait(int32_t milliseconds);  // whether it has ended
    float progress() const;           // tensors begun, in [0, 1]
    void cancel();                    // ends it before the next tensor
    std::string failure();            // after the end: why it failed, empty when it did not

  private:
    std::string run();
    void on_text(const char * text);

    const std::string source_;
    const std::string destination_;
    const quantize_options options_;
    std::atomic<bool> cancelled_{false};
    std::atomic<float> progress_{0};
    std::promise<std::string> promise_;
    std::shared_future<std::string> ended_;
    named_thread thread_;
};

}  // namespace pyllama
