// One request while it lives in the engine: its tokens so far, its sampler, its limits. Created on the
// submitting thread, then owned by the engine thread alone; only `control` is shared.
//
// A generation knows nothing of KV caches. It moves from queue to slot, and back to the queue when its slot
// is needed (its cells are recomputed later): all that makes it continue is here.
//
// A request for n choices is n generations with one channel. Until its prompt is decoded it is one, the leader, which
// carries the others with it; then each goes on alone, in a slot of its own.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "channel.h"
#include "control.h"
#include "forced_text.h"
#include "indent_rule.h"
#include "media.h"
#include "renderer.h"
#include "sampling_change.h"
#include "slot_sampler.h"
#include "text_hold.h"

namespace pyllama {

class generation {
  public:
    using clock = std::chrono::steady_clock;

    // n_ctx_slot: tokens that prompt and answer may have together; more when the context is shifted.
    generation(std::shared_ptr<const model> model, prepared_request && prepared, const stream_limits & limits,
               int32_t n_ctx_slot, bool shifts = false);

    // The leader's nth other choice: the same prompt, a sampler of its own whose seed is the leader's plus n.
    generation(const generation & leader, int32_t n);

    // An answer to another prompt of the first one's request.
    generation(const generation & first, int32_t choice, const further_prompt & prompt);

    // Tokens whose KV entries the answer needs: the prompt, then what was generated. The last n_fresh() have not been
    // decoded yet while the request runs: the token that was sampled last, and what was forced since.
    const std::vector<llama_token> & tokens() const { return tokens_; }
    // The media in the prompt, in order.
    const std::vector<media_span> & media() const { return media_; }
    int32_t n_prompt() const { return n_prompt_; }
    int32_t n_generated() const { return static_cast<int32_t>(tokens_.size()) + n_dropped_ - n_prompt_; }
    int32_t n_fresh() const { return n_fresh_; }
    // With context shift: the context is full, and something has to be dropped before the next decode.
    bool outgrown() const { return shifts_ && static_cast<int32_t>(tokens_.size()) >= n_ctx_slot_; }
    // How many tokens from the start a shift must leave.
    int32_t n_keep() const;
    // Drops tokens [begin, begin + n) from the context; the client has them.
    void drop(int32_t begin, int32_t n);
    // Tokens generated since the last call, for the metrics.
    int32_t take_uncounted() { return n_generated() - std::exchange(n_counted_, n_generated()); }
    const generation_params & params() const { return params_; }
    const std::string & id() const { return id_; }
    int32_t choice() const { return choice_; }
    const std::shared_ptr<channel> & output() const { return channel_; }
    const std::shared_ptr<generation_control> & control() const { return control_; }
    bool cancelled() const { return control_->group->cancelled.load(std::memory_order_relaxed); }

    // For the metrics: when it was submitted, and when its last token was sampled, if one was.
    clock::time_point created_at() const { return created_at_; }
    std::optional<clock::time_point> last_token_at() const {
        return sampled_any_ ? std::optional(last_token_at_) : std::nullopt;
    }

    // The slot it is in.
    void note_slot(int32_t id) { id_slot_ = id; }
    // A paused generation keeps its slot and its cells, or its place in the queue, and decodes nothing.
    bool paused() const { return paused_at_.has_value(); }
    clock::time_point paused_at() const { return *paused_at_; }
    void pause(bool park) {
        paused_at_ = clock::now();
        parks_ = park;
    }
    void resume() { paused_at_.reset(); }
    // Paused, it needs its slot and its cells no longer.
    bool parks() const { return paused() && parks_; }
    // Whether its followers, if it has some, are paused too: then nothing is decoded for any of them.
    bool rests() const;

    // Tells the stream of a control, between the tokens it has and those to come.
    void note(control_note && note, renderer & render);

    // Takes other sampling parameters and limits over. A limit that is reached by now sets reason().
    void change_sampling(sampling_change & change, renderer & render);

    // A control ends the request, and reason() says so. What is held back is part of the answer.
    void cut(renderer & render);

    // Whether it had a slot already: in the queue, then, it is parked.
    bool started() const { return started_; }
    clock::time_point started_at() const { return started_at_; }  // when it got its first slot

    // Whether the answer is inside a reasoning block.
    bool reasons() const { return sampler_.reasoning().inside(); }

    // Ends the reasoning by force, between two decodes. What happened goes to `settled`, called in here,
    // or, while the last character is incomplete, within the next few steps. `settled` runs before the forced text
    // leaves for the stream, and after all text before it has, so that what it pushes stands at that position. Only
    // an end that is armed is told twice: that it is, and what came of it.
    //
    //   queued or in prefill   applied, position 0, when the prompt leaves a block open: the text becomes part of the
    //                          prefill; else armed. Choices that share a prefill share that text: end all or none.
    //   in a block             applied at the end of what is generated, or once the character is complete; refused
    //                          when the block ends by itself before that, or the grammar does not allow the text
    //   outside, or finished   refused, as it is without reasoning tags
    //
    // The forced text may reach a limit: reason() is set then, and the engine has to finish the generation.
    void end_reasoning(force_settled settled, renderer & render);

    // Puts text behind all that is generated, between two decodes, as if the model had said it; before the first token
    // it becomes part of the prefill. What happened goes to `settled` as above, and in the order in which it was asked
    // for: applied at the end of what is generated, or once the character is complete; refused when it does not
    // fit into the limits as a whole, when the grammar does not allow it, and when the answer has ended before.
    void inject(std::shared_ptr<const llama_tokens> text, force_settled settled, renderer & render);

    // Changes the budget, in sampled tokens over all blocks of the answer: reasoning_budget::unlimited, or a number.
    // When that is used up already, the block that is open ends here, or with the next tokens as above. False, with
    // nothing changed, for requests without reasoning tags.
    bool set_reasoning_budget(int32_t tokens, renderer & render);
    int32_t reasoning_budget_limit() const { return sampler_.reasoning().limit(); }
    int32_t n_budget_used() const { return sampler_.reasoning().n_used(); }

    // The other choices of the request, until the prompt is decoded.
    const std::vector<std::unique_ptr<generation>> & followers() const { return followers_; }
    int32_t n_slots_needed() const { return 1 + static_cast<int32_t>(followers_.size()); }
    void add_follower(std::unique_ptr<generation> next) { followers_.push_back(std::move(next)); }
    std::unique_ptr<generation> take_follower();  // the one with the smallest number
    std::vector<std::unique_ptr<generation>> take_ended_followers();
    // Makes the first follower the leader of the others; null when there is none.
    std::unique_ptr<generation> hand_over(renderer & render);

    // The request got a slot. The first time, the stream starts.
    void start(renderer & render, int32_t n_cached);

    // The leader's prompt is in the cache, and this generation has it from there.
    void start_from(const generation & leader, renderer & render);

    // n more prompt tokens were decoded.
    void note_prefill(int32_t n, renderer & render);

    // Chooses the next token from the row of its last token. May run on any one thread of the engine's team.
    // Keeps what went wrong; advance() reports it.
    void sample(const float * row);

    // Takes the sampled token: text, stop strings, limits. True while the request goes on.
    bool advance(renderer & render);

    // Ends this choice, and with the last one the stream. Exactly one of the two is called, once.
    void finish(finish_reason reason, renderer & render);
    void fail(error reason, renderer & render);
    // Ends the whole request's stream; every choice still gets its fail().
    void fail_request(const error & reason, renderer & render);

    const generation_timings & timings() const { return timings_; }
    std::optional<finish_reason> reason() const { return reason_; }
    const std::optional<error> & failure() const { return failure_; }

  private:
    static double milliseconds(clock::duration duration);
    std::string text_of(llama_token token) const;
    bool limit_reached();

    // generation_force.cpp. No renderer is needed before the first token is sampled.
    const char * why_no_force() const;
    void force_due(renderer & render);
    bool text_due() const;
    void put_next_text(renderer & render);
    bool force(const llama_tokens & text, const force_settled & settled, renderer * render);
    int32_t n_room() const;
    void refuse_forces(const std::string & message);

    // generation_reasoning.cpp
    const char * why_no_end() const;
    void end_if_due(renderer * render);
    void settle_end(const force_result & result);
    void refuse_end(std::string message);
    void note_natural_end();

    void show_params();

    // generation_output.cpp
    void tell_progress(renderer & render);
    void flush(renderer & render);
    void release(std::vector<piece> & pieces, renderer & render);

    generation_result result() const;

    std::shared_ptr<const model> model_;
    std::string id_;
    int32_t choice_ = 0;
    generation_params params_;
    std::vector<llama_token> tokens_;
    std::vector<media_span> media_;
    int32_t n_prompt_;
    int32_t n_ctx_slot_;
    bool shifts_ = false;
    int32_t n_dropped_ = 0;  // tokens that shifts took out of tokens_
    int32_t n_fresh_ = 0;
    int32_t n_counted_ = 0;
    bool sampled_any_ = false;
    slot_sampler sampler_;
    indent_rule indent_;
    text_hold hold_;
    std::shared_ptr<channel> channel_;
    std::shared_ptr<generation_control> control_;
    std::vector<std::unique_ptr<generation>> followers_;

    // Text that waits for the rest of a character.
    struct waiting_text {
        std::shared_ptr<const llama_tokens> tokens;
        force_settled settled;
        bool behind_end;       // of the reasoning, which was due already when the text came
        int32_t n_waited = 0;  // tokens since
    };

    std::vector<force_settled> waiting_ends_;
    std::vector<waiting_text> waiting_texts_;
    std::vector<piece> early_;  // forced before the first token was sampled, and notes behind it: they leave with it

    llama_token sampled_ = LLAMA_TOKEN_NULL;
    std::unique_ptr<piece_logprobs> sampled_logprobs_;
    std::optional<error> failure_;
    std::optional<finish_reason> reason_;
    std::string stop_string_;
    int32_t id_slot_ = -1;
    bool truncated_ = false;
    bool has_line_ = false;  // the answer has a line feed
    bool cut_ = false;
    std::optional<clock::time_point> paused_at_;
    bool parks_ = false;
    std::vector<piece> early_notes_;  // of controls before the start
    bool started_ = false;
    const clock::time_point created_at_ = clock::now();
    clock::time_point started_at_;
    clock::time_point first_token_at_;
    clock::time_point last_token_at_;
    generation_timings timings_;
};

}  // namespace pyllama
