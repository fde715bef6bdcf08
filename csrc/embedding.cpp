#include "embedding.h"

#include <utility>

namespace pyllama {

embedding_task::embedding_task(prepared_request && prepared, const stream_limits & limits)
    : id(std::move(prepared.id)),
      inputs(std::move(prepared.inputs)),
      media(std::move(prepared.input_media)),
      results(std::move(prepared.embeddings)),
      output(std::make_shared<channel>(std::move(prepared.writer), std::make_shared<stream_session>(limits))),
      control(std::make_shared<generation_control>()) {
    results->rows.resize(inputs.size());
}

void embedding_task::finish(renderer & render) {
    generation_result result;
    for (const llama_tokens & tokens : inputs) {
        result.n_prompt_tokens += static_cast<int32_t>(tokens.size());
    }
    if (output->push_finish(std::move(result))) {
        render.mark(output);
    }
}

void embedding_task::fail(error reason, renderer & render) {
    if (output->push_failure(std::move(reason))) {
        render.mark(output);
    }
}

}  // namespace pyllama
