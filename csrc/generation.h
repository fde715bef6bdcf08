// One request while it lives in the engine: its tokens so far, its sampler, its limits. Created on the
// submitting thread, then owned by the engine thread alone; only `control` is shared.
//
// A generation knows nothing of KV caches. It moves from queue to slot, and back to the queue when its slot
// is needed (its cells are recomputed later): all that makes it continue is here.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "indent_rule.h"
#include "renderer.h"
#include "slot_sampler.h"
#include "stream.h"
#include "text_hold.h"

namespace pyllama {

// Shared by the engine and the handle of the request.
struct generation_control {
    std::atomic<bool> cancelled{false};
};

class generation {
  public:
    using clock = std::chrono::steady_clock;

    generation(std::shared_ptr<const model> model, prepared_request && prepared, size_t stream_capacity);

    // Tokens whose KV entries the answer needs: the prompt, then what was generated. The last one has not been
    // decoded yet while the request runs.
    const std::vector<llama_token> & tokens() const { return tokens_; }
    int32_t n_prompt() const { return n_prompt_; }
    int32_t n_generated() const { return static_cast<int32_t>(tokens_.size()) - n_prompt_; }
    const generation_params & params() const { return params_; }
    const std::string & id() const { return id_; }
    const std::shared_ptr<channel> & output() const { return channel_; }
    const std::shared_ptr<generation_control> & control() const { return control_; }
    bool cancelled() const { return control_->cancelled.load(std::memory_order_relaxed); }

    // The slot it is in.
    void note_slot(int32_t id) { id_slot_ = id; }

    // The request got a slot. The first time, the stream starts.
    void start(renderer & render, int32_t n_cached);

    // n more prompt tokens were decoded.
    void note_prefill(int32_t n, renderer & render);

    // Chooses the next token from the row of its last token. May run on any one thread of the engine's team.
    // Keeps what went wrong; advance() reports it.
    void sample(const float * row);

    // Takes the sampled token: text, stop strings, limits. True while the request goes on.
    bool advance(int32_t n_ctx_slot, renderer & render);

    // Ends the stream. Exactly one of the two is called, once.
    void finish(finish_reason reason, renderer & render);
    void fail(error reason, renderer & render);

    const generation_timings & timings() const { return timings_; }
    std::optional<finish_reason> reason() const { return reason_; }
    const std::optional<error> & failure() const { return failure_; }

  private:
    std::string text_of(llama_token token) const;
    bool limit_reached(int32_t n_ctx_slot);
    void tell_progress(renderer & render);
    void release(std::vector<piece> & pieces, renderer & render);

    std::shared_ptr<const model> model_;
    std::string id_;
    generation_params params_;
    std::vector<llama_token> tokens_;
    int32_t n_prompt_;
    slot_sampler sampler_;
    indent_rule indent_;
    text_hold hold_;
    std::shared_ptr<channel> channel_;
    std::shared_ptr<generation_control> control_;

    llama_token sampled_ = LLAMA_TOKEN_NULL;
    std::unique_ptr<piece_logprobs> sampled_logprobs_;
    std::optional<error> failure_;
    std::optional<finish_reason> reason_;
    std::string stop_string_;
    int32_t id_slot_ = -1;
    bool truncated_ = false;
    bool started_ = false;
    clock::time_point started_at_;
    clock::time_point first_token_at_;
    clock::time_point last_token_at_;
    generation_timings timings_;
};

}  // namespace pyllama
