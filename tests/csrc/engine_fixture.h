// An engine on the bundled model for tests, with requests made of tokens and answers read as tokens.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine.h"

namespace pyllama_test {

using pyllama::engine;
using pyllama::submitted;

// Writes each piece as its token id and a space, progress as "<processed>/<total> ", a piece's timings as
// "@<n_decoded> " after it; a control as "<pause 17> " with its position, as "<!pause -1> " when it was not applied;
// the end as the finish reason's name. With several choices each word is "<choice>:<word> ".
class token_writer : public pyllama::frame_writer {
  public:
    explicit token_writer(int n_choices = 1) : n_choices_(n_choices) {}
    void start(pyllama::frame_sink &) override {}
    void progress(const pyllama::prefill_progress & progress, pyllama::frame_sink & sink) override;
    void pieces(int32_t choice, std::vector<pyllama::piece> & batch, pyllama::frame_sink & sink) override;
    void control(int32_t choice, const pyllama::control_note & note, pyllama::frame_sink & sink) override;
    void finish(const pyllama::generation_result & result, pyllama::frame_sink & sink) override;
    void end(pyllama::frame_sink &) override {}
    void fail(const pyllama::error & reason, pyllama::frame_sink & sink) override;
    std::string_view content_type() const override { return "text/plain"; }

  private:
    std::string tag(int32_t choice) const { return n_choices_ > 1 ? std::to_string(choice) + ":" : ""; }

    int n_choices_;
};

std::shared_ptr<const pyllama::model> demo_model();

// Flags of a small engine: n_slots slots, n_ctx cells in all.
pyllama::server_params engine_params(int n_slots, int n_ctx, bool unified);

// A greedy request of n_predict tokens that never ends by itself.
pyllama::prepared_request request(const std::vector<llama_token> & prompt, int n_predict, int n_choices = 1);

// A chat prompt of exactly n_tokens tokens that ends with a question.
std::vector<llama_token> prompt(uint32_t seed, size_t n_tokens);

// The whole answer; waits for the end without polling.
std::string answer(const submitted & handle);

// Such an answer, without the notes of controls in it.
std::string without_notes(std::string text);

// The same of each choice, as answer() would give it, without the notes of controls.
std::vector<std::string> answers(const submitted & handle, int n_choices);

// Waits until `handle` has at least n_bytes of answer, or has ended.
void wait_for_bytes(const submitted & handle, uint64_t n_bytes);

// The same of a client that may control it.
pyllama::prepared_request controlled(const std::vector<llama_token> & prompt, int n_predict, int n_choices = 1);

// Posts a control to one generation and returns its receipt at once.
std::shared_ptr<pyllama::control_ticket> post(engine & target, pyllama::generation_control & to,
                                              const pyllama::control_command & command);

// The first answer to a control; waits for all of them.
pyllama::control_result wait_for(const std::shared_ptr<pyllama::control_ticket> & ticket);

// The same request by a plain loop over llama_decode, one sequence, no engine.
std::string plain_loop(const std::vector<llama_token> & prompt, int n_predict, int n_ctx);

// Holds an engine's decodes back, so that a test can act while a step is running, and between two chosen ones.
class step_gate {
  public:
    pyllama::engine::decoder_factory decoder();

    // Lets n more decodes run and waits until the one after them has come. The engine must have that much to do.
    void run(int n);
    // Lets every decode run from now on.
    void open();
    // Decodes that have begun.
    int n_begun() const;

  private:
    class gated_decoder;
    void pass();

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    int n_begun_ = 0;
    int n_allowed_ = 0;
};

// Waits until nothing runs and nothing is queued.
void wait_until_idle(engine & target);

}  // namespace pyllama_test
