// A vocabulary and a template from the vendored tree, for the tests of requests, parsing and writers.
#pragma once

#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "check.h"
#include "frame_writer.h"
#include "json.h"
#include "model.h"
#include "prompt.h"

namespace pyllama_test {

inline std::string read_text(const std::string & path) {
    std::ifstream file(path, std::ios::binary);
    CHECK(file.good());
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

inline std::shared_ptr<pyllama::model> load_with_template(const std::string & name,
                                                          const std::string & vocab = PYLLAMA_LLAMA_CPP_MODELS
                                                          "/ggml-vocab-qwen2.gguf") {
    common_params params;
    params.model.path = vocab;
    params.chat_template = read_text(PYLLAMA_LLAMA_CPP_MODELS "/templates/" + name + ".jinja");
    params.model_alias = {"test-model"};
    return pyllama::model::load_vocab(params);
}

inline const std::shared_ptr<pyllama::model> & qwen3() {
    static const auto loaded = load_with_template("Qwen-Qwen3-0.6B");
    return loaded;
}

inline pyllama::prepared_request prepare(const std::string & body, pyllama::dialect dialect = pyllama::dialect::openai,
                                         const std::shared_ptr<pyllama::model> & model = qwen3(), int n_ctx = 4096) {
    return pyllama::prepare_chat(model, body, dialect, {n_ctx, 4});
}

struct collected_frames : pyllama::frame_sink {
    std::vector<std::string> frames;
    void frame(std::string_view bytes) override { frames.emplace_back(bytes); }
    std::string joined() const {
        std::string all;
        for (const auto & bytes : frames) {
            all += bytes;
        }
        return all;
    }
};

// `text` in pieces of the given length, with the vocabulary's token at the head of each tag.
inline std::vector<pyllama::piece> cut(const std::string & text, size_t length) {
    std::vector<pyllama::piece> pieces;
    for (size_t at = 0; at < text.size(); at += length) {
        pyllama::piece value;
        value.token = 1;
        value.text = text.substr(at, length);
        pieces.push_back(std::move(value));
    }
    return pieces;
}

}  // namespace pyllama_test
