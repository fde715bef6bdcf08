// The engine: one thread that owns the llama_context and the slots, one that renders, and the queue between
// callers and them. Public methods may be called from any thread and do not wait for a step, except slots()
// and close().
//
// A step, on the engine thread:
//   drain submissions -> apply controls -> drop ended -> admit queued requests to idle slots ->
//   schedule one ubatch -> decode -> fork a leader whose prompt is done -> sample every slot that got logits ->
//   advance -> tell the renderer once
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "decoder.h"
#include "embedding.h"
#include "generation.h"
#include "metrics.h"
#include "model.h"
#include "renderer.h"
#include "scheduler.h"
#include "server_params.h"
#include "slot.h"
#include "slot_info.h"
#include "thread.h"

namespace pyllama {

// What a caller holds of a submitted request.
struct submitted {
    std::string id;
    std::shared_ptr<stream_session> session;
    std::shared_ptr<generation_control> control;               // of the first choice
    std::vector<std::shared_ptr<generation_control>> choices;  // of all, in order
};

class engine {
  public:
    // Called once, on the engine thread; tests pass decoders that fail.
    using decoder_factory = std::function<std::unique_ptr<decoder>(const model &, const common_params &)>;

    // Makes the context on the new engine thread and waits until it is ready. Throws error(model_load).
    engine(std::shared_ptr<const model> model, const server_params & params, decoder_factory make_decoder = {});
    ~engine();  // close()
    engine(const engine &) = delete;
    engine & operator=(const engine &) = delete;

    // Queues a prepared request; its stream session exists from now on. Throws error: busy when the queue is
    // full, unavailable after shutdown(), invalid_request for sampling parameters that cannot be used.
    submitted submit(prepared_request && prepared);

    // Ends the request before the next decode, wherever it is. Idempotent.
    void cancel(const std::shared_ptr<generation_control> & control);

    // Posts a control to a request; it is applied before the next decode, and the ticket is answered then.
    // False when it was answered at once.
    bool control(generation_control & target, posted_control && control);

    // Refuses new requests and ends every unfinished one with error(unavailable, message).
    void shutdown(const std::string & message);

    // shutdown(), then ends both threads and frees the context. Idempotent; must not be called on them.
    void close();

    std::vector<slot_info> slots();  // waits for the step that is running
    const pyllama::metrics & metrics() const { return metrics_; }
    const byte_budget & stream_budget() const { return *stream_budget_; }
    int32_t n_ctx_slot() const { return n_ctx_slot_; }
    const embedding_limits & embeddings() const { return embedding_limits_; }
    int32_t n_slots() const { return params_.common.n_parallel; }
    const std::shared_ptr<const model> & shared_model() const { return model_; }

  private:
    using command = std::function<void()>;

    // A slot that got logits in this step.
    struct ready_slot {
        slot * target;
        const float * row;
    };

    // A request in the queue, with all its choices.
    struct queued_request {
        std::unique_ptr<generation> leader;
        size_t n_overtaken = 0;  // requests that came later and have got a slot before this one
    };

    // engine.cpp: the thread
    void run(std::promise<void> & ready);
    void make_slots();
    bool wait_for_work();
    void step();
    void drain();
    void drain_submissions();
    void recover(const error & reason);
    void count_running();

    // engine_submit.cpp: the callers' side, and how many slots are waited for
    void enter_queue(size_t n);
    void left_queue(size_t n);
    void poke();

    // engine_ends.cpp: how requests end
    void drop_ended();
    void release(slot & target);
    void finish(slot & target, finish_reason reason);
    void fail(slot & target, const error & reason);
    void finish(generation & ended, finish_reason reason);
    void fail(generation & ended, const error & reason);
    void count_end(const generation & ended);
    void fail_all(const error & reason);

    // engine_control.cpp: controls of running and queued requests
    void apply_controls();
    void control_one(generation & target);
    void settle(generation & target, const posted_control & posted, control_result result);
    control_result apply(generation & target, const control_command & wanted);
    void end_reasoning(generation & target, posted_control && control);
    void set_budget(generation & target, const posted_control & posted);
    std::string pause(generation & target);
    std::string resume(generation & target);
    void end_pause(generation & target);
    control_result result_of(const generation & target, bool applied, int32_t position) const;
    control_result refusal_of(const generation & target, std::string message) const;
    int32_t n_paused(const std::string & owner) const;
    request_state state_of(const generation & target) const;
    generation::clock::time_point pause_end(const generation & target) const;
    std::optional<generation::clock::time_point> next_pause_end() const;

    // Every generation, in a slot or in the queue; followers after their leader.
    template <typename Visit>
    void each_generation(Visit visit) const {
        const auto with_followers = [&](const std::unique_ptr<generation> & leader) {
            if (leader) {
                visit(*leader);
                for (const auto & follower : leader->followers()) {
                    visit(*follower);
                }
            }
        };
        for (const slot & each : slots_) {
            with_followers(each.running);
        }
        for (const queued_request & waiting : queue_) {
            with_followers(waiting.leader);
        }
    }

    // engine_step.cpp: one step
    void decode(const std::vector<chunk> & plan);
    void account(const std::vector<chunk> & plan, generation::clock::duration elapsed);
    std::vector<ready_slot> ready_slots(const std::vector<chunk> & plan);
    void sample(const std::vector<ready_slot> & ready);
    void advance(const std::vector<ready_slot> & ready);
    void measure_token(const generation & running, std::optional<generation::clock::time_point> previous);
    void fail_decode(const std::vector<chunk> & plan);

    // engine_embedding.cpp: steps of the other batch class
    submitted submit_embedding(prepared_request && prepared);
    std::vector<embedding_part> next_inputs();
    bool embed();
    void take_rows(std::vector<embedding_part> & parts);
    void fail_embedding(error reason);
    void drop_embedding();
    void drop_cancelled_embeddings();

    // engine_admission.cpp: who gets a slot and KV cells
    void admit();
    slot * choose_slot(const generation & next);
    bool room_for(const generation & next) const;
    size_t n_shared_cells() const;
    void assign(slot & target, std::unique_ptr<generation> next);
    void make_room(const std::vector<chunk> & plan);
    bool evict_idle();
    bool park_paused();
    void park(slot & victim);

    // engine_choices.cpp: the choices of a request that has several
    size_t n_idle() const;
    void reserve(const slot & leader, size_t n);
    void unreserve(const slot & leader, size_t n);
    std::unique_ptr<generation> still_open(std::unique_ptr<generation> leader);
    void fork(slot & leader, const float * row, std::vector<ready_slot> & ready);
    void take_row(slot & target, const float * row, std::vector<ready_slot> & ready);

    std::shared_ptr<const model> model_;
    server_params params_;
    std::shared_ptr<byte_budget> stream_budget_ =
        std::make_shared<byte_budget>(static_cast<size_t>(params_.max_stream_bytes));
    decoder_factory make_decoder_;
    pyllama::metrics metrics_;
    renderer renderer_;
    int32_t n_ctx_slot_ = 0;
    bool generates_ = true;  // false for encoders
    embedding_limits embedding_limits_;

    // Shared with callers, under mutex_.
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<command> commands_;
    std::deque<std::unique_ptr<generation>> submitted_;
    std::deque<std::unique_ptr<embedding_task>> submitted_embeddings_;
    size_t n_waiting_ = 0;  // slots needed by what is submitted and has none yet
    size_t n_idle_ = 0;     // slots, reserved ones not counted
    bool refusing_ = false;
    bool stopping_ = false;
    bool poked_ = false;
    std::string refusal_;

    // Engine thread only.
    std::unique_ptr<decoder> decoder_;
    std::unique_ptr<scheduler> scheduler_;
    std::vector<slot> slots_;
    std::deque<queued_request> queue_;
    std::deque<std::unique_ptr<embedding_task>> embeddings_;
    bool embedded_last_ = false;  // the step before this one made embeddings
    bool resting_ = false;        // the last step found nothing that could be decoded
    uint64_t clock_ = 0;          // counts assignments and releases
    bool room_changed_ = true;    // a generation ended since one was parked: parked ones may try again

    named_thread thread_;
};

}  // namespace pyllama
