// A generation without an engine: rows of logits say what the model "says".
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine_fixture.h"
#include "generation.h"
#include "tokenize.h"

namespace pyllama_test {

struct recorded {
    std::vector<llama_token> tokens;
    std::string text;
    std::vector<bool> with_logprobs;
    std::string reason;
};

class recorder : public pyllama::frame_writer {
  public:
    explicit recorder(std::shared_ptr<recorded> into) : into_(std::move(into)) {}
    void start(pyllama::frame_sink &) override {}
    void pieces(int32_t, std::vector<pyllama::piece> & batch, pyllama::frame_sink &) override {
        for (const pyllama::piece & each : batch) {
            into_->tokens.push_back(each.token);
            into_->text += each.text;
            into_->with_logprobs.push_back(each.logprobs != nullptr);
        }
    }
    void finish(const pyllama::generation_result & result, pyllama::frame_sink &) override {
        into_->reason = result.reason == pyllama::finish_reason::stop ? "stop " + result.stop_string : "length";
    }
    void end(pyllama::frame_sink &) override {}
    void fail(const pyllama::error & reason, pyllama::frame_sink &) override { into_->reason = reason.what(); }
    std::string_view content_type() const override { return "text/plain"; }

  private:
    std::shared_ptr<recorded> into_;
};

inline llama_tokens tokens_of(const std::string & text) {
    return pyllama::tokenize(demo_model()->vocab(), text, false, true, "");
}

// A generation, and a model that says what it is told.
class scripted {
  public:
    explicit scripted(pyllama::generation_params params, const pyllama::reasoning_wishes & wishes, bool open = false,
                      int32_t n_ctx = 4096)
        : scripted(std::move(params), wishes, {"<think>", {"</think>"}, open}, n_ctx) {}
    scripted(pyllama::generation_params params, const pyllama::reasoning_wishes & wishes,
             const pyllama::reasoning_tags & tags, int32_t n_ctx = 4096) {
        params.reasoning = pyllama::make_reasoning_params(*demo_model(), tags, wishes);
        forced = params.reasoning.forced;
        forced_bare = params.reasoning.forced_bare;
        params.special = true;
        pyllama::prepared_request prepared;
        prepared.tokens = tokens_of("<|im_start|>");
        prepared.params = std::move(params);
        prepared.writer = std::make_unique<recorder>(said_);
        running =
            std::make_unique<pyllama::generation>(demo_model(), std::move(prepared), pyllama::stream_limits{}, n_ctx);
    }

    // True while the generation goes on.
    bool say(llama_token token) { return say_likeliest({{token, 1000.0f}}); }
    // The logits that are not 0.
    bool say_likeliest(const std::vector<std::pair<llama_token, float>> & logits) {
        row_.assign(static_cast<size_t>(demo_model()->n_vocab()), 0.0f);
        for (const auto & [token, logit] : logits) {
            row_[static_cast<size_t>(token)] = logit;
        }
        running->start(renderer_, 0);
        running->sample(row_.data());
        return running->advance(renderer_);
    }
    bool say(const std::string & text) {
        bool goes_on = true;
        for (const llama_token token : tokens_of(text)) {
            goes_on = say(token);
        }
        return goes_on;
    }

    void ask() {
        running->end_reasoning([this](const pyllama::force_result & result) { told.push_back(result); }, renderer_);
    }
    void inject(const std::string & text) { inject(tokens_of(text)); }
    void inject(llama_tokens text) {
        running->inject(
            std::make_shared<llama_tokens>(std::move(text)),
            [this](const pyllama::force_result & result) { told.push_back(result); }, renderer_);
    }
    void set_budget(int32_t tokens) { running->set_reasoning_budget(tokens, renderer_); }

    const recorded & end(pyllama::finish_reason otherwise = pyllama::finish_reason::cancelled) {
        running->finish(running->reason().value_or(otherwise), renderer_);
        renderer_.close();
        return *said_;
    }

    const recorded & fail(const char * reason) {
        running->fail(pyllama::error(pyllama::error_kind::engine, reason), renderer_);
        renderer_.close();
        return *said_;
    }

    std::unique_ptr<pyllama::generation> running;
    llama_tokens forced;
    llama_tokens forced_bare;
    std::vector<pyllama::force_result> told;

  private:
    std::shared_ptr<recorded> said_ = std::make_shared<recorded>();
    pyllama::renderer renderer_;
    std::vector<float> row_;
};

inline pyllama::generation_params greedy() {
    pyllama::generation_params params;
    params.sampling.temp = 0.0f;
    return params;
}

}  // namespace pyllama_test
