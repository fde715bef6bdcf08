// The engine: one thread that owns the llama_context and the slots, one that renders, and the queue between
// callers and them. Public methods may be called from any thread and do not wait for a step, except slots(),
// shared_model(), the actions on slots and close().
//
// A step, on the engine thread:
//   drain submissions -> apply controls -> drop ended -> act on idle slots -> admit queued requests to idle slots ->
//   end waits for shared prefixes -> shift full contexts -> schedule one ubatch -> decode -> fork a leader whose prompt
//   is done -> sample every slot that got logits -> advance -> tell the renderer once
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "decoder.h"
#include "embedding.h"
#include "generation.h"
#include "load_progress.h"
#include "lora.h"
#include "media_encoder.h"
#include "metrics.h"
#include "model.h"
#include "prefix_cache.h"
#include "prompt_cache.h"
#include "renderer.h"
#include "request_queue.h"
#include "scheduler.h"
#include "server_params.h"
#include "slot.h"
#include "slot_file.h"
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

// JSON objects of what never changes: /props and the model's entry in /models.
struct model_facts {
    std::string props;
    std::string info;
};

// What an action on a slot did.
struct slot_action_result {
    int32_t n_tokens = 0;
    uint64_t n_bytes = 0;
    double ms = 0;
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

    // A request is being prepared: it is on its way until submit() has it, or until it is given up.
    std::unique_ptr<arrival> expect() const { return std::make_unique<arrival>(arrivals_); }

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
    const service_time & service() const { return service_; }
    const byte_budget & budget() const { return *budget_; }
    int32_t n_ctx_slot() const { return n_ctx_slot_; }
    const embedding_limits & embeddings() const { return embedding_limits_; }
    int32_t n_slots() const { return params_.common.n_parallel; }
    const server_params & params() const { return params_; }

    // The model. Wakes a sleeping engine and waits until it is there: seconds. Throws error(unavailable): after
    // shutdown(), or when it cannot be loaded again.
    std::shared_ptr<const model> shared_model();
    // The same, but null while the engine sleeps.
    std::shared_ptr<const model> awake_model() const;
    // What callers show of the model while it is away; set once, before the first caller.
    void keep_facts(model_facts facts) { facts_ = std::move(facts); }
    const model_facts & facts() const { return facts_; }
    bool sleeping() const { return sleeping_.load(std::memory_order_relaxed); }

    // The LoRA scales of requests that name none; they hold for what is submitted from now on.
    lora_set lora() const;
    void set_lora(lora_set set);

    // Saves an idle slot's sequence below --slot-save-path, restores it from there, or empties it. Waits until the slot
    // is idle. Throws error: unsupported without that flag, invalid_request, busy when too many wait, unavailable.
    slot_action_result save_slot(int32_t id, const std::string & filename);
    slot_action_result restore_slot(int32_t id, const std::string & filename);
    slot_action_result erase_slot(int32_t id);

  private:
    using command = std::function<void()>;

    // What waits for a slot to be idle.
    struct slot_task {
        int32_t id;
        std::function<void(slot &)> run;
        std::function<void(const error &)> fail;
    };

    // A slot that got logits in this step.
    struct ready_slot {
        slot * target;
        const float * row;
    };

    // Where a generation's first tokens come from: the slot that holds them, its own or another, or that decodes them.
    struct prefix_choice {
        const slot * from = nullptr;
        int32_t n = 0;
        awaited_prefix awaited;
    };

    // engine.cpp: the thread
    void run(std::promise<void> & ready);
    void make_slots();
    void make_context(const model & source);
    bool wait_for_work();
    void gather(std::unique_lock<std::mutex> & lock);
    void step();
    void drain();
    void drain_submissions();
    void recover(const error & reason);
    void count_running();

    // engine_submit.cpp: the callers' side, and how many slots are waited for
    void enter_queue(size_t n);
    void left_queue(size_t n);
    void poke();

    // engine_slots.cpp: what is done to idle slots
    void check_slot(int32_t id) const;
    void when_idle(int32_t id, std::function<void(slot &)> run);
    void run_slot_tasks();
    void fail_slot_tasks(const error & reason);
    void restore(slot & target, std::vector<uint8_t> & file, slot_file_contents & contents);

    // engine_sleep.cpp: without work for long, the engine gives model and memory away
    bool idle() const;
    std::optional<generation::clock::time_point> sleep_time() const;
    void fall_asleep();
    bool wake_up();

    // engine_cache.cpp: what the slots hold besides what runs
    void recall(slot & target, const generation & next);
    void put_away(slot & target, const generation * parked = nullptr);
    bool fits(const saved_sequence & saved, const slot & target) const;
    bool load(const saved_sequence & saved, slot & target);
    void put_idle_away();
    void note_checkpoint(slot & target);
    void shift_full_contexts();

    // engine_memory.cpp: the budget of host memory
    void note_rendered();
    bool make_host_room(size_t n, slot * own);
    bool drop_checkpoint(slot * own);
    void relieve();

    // engine_ends.cpp: how requests end
    void drop_ended();
    void release(slot & target);
    void note_service(const generation & ended);
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
    force_settled told_of(generation & target, posted_control && control);
    void set_budget(generation & target, const posted_control & posted);
    std::string pause(generation & target, bool park);
    void park_on_request();
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
    void learn(generation::clock::duration elapsed);
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
    static int32_t named_slot(const generation & next);
    using slot_rank = std::tuple<int, bool, uint64_t>;
    int n_more_passes(const slot & idle) const;
    slot_rank rank(const slot & idle) const;
    slot * spare_slot();
    bool hands_over(const slot & idle, int32_t n);
    slot * choose_slot(const generation & next);
    bool room_for(const generation & next, const slot & target) const;
    void assign(slot & target, std::unique_ptr<generation> next);
    void make_room(const std::vector<chunk> & plan);
    bool evict_idle();
    bool park_for(const generation & next);
    bool park_paused();
    void park_paused(slot & paused);
    void park(slot & victim);
    void tell(generation & target, const char * event);

    // engine_prefix.cpp: what a generation takes from the KV cache, and from whom
    prefix_cache::sequences running_sequences() const;
    prefix_choice choose_prefix(const slot & target, const generation & next) const;
    int32_t take_own(slot & target, int32_t wanted);
    void take_prefix(slot & target);
    void join_others(slot & target);
    void end_waits();

    // engine_media.cpp: images in prompts
    void encode_media();
    bool encoded(const std::vector<media_span> & media);
    static bool has_failed(const std::vector<media_span> & media);
    void forget_media(const slot & target, int32_t n_before);
    void check_media(const prepared_request & prepared) const;

    // engine_choices.cpp: the choices of a request that has several
    size_t n_idle() const;
    void reserve(const slot & leader, size_t n);
    void unreserve(const slot & leader, size_t n);
    std::unique_ptr<generation> still_open(std::unique_ptr<generation> leader);
    void fork(slot & leader, const float * row, std::vector<ready_slot> & ready);
    void take_row(slot & target, const float * row, std::vector<ready_slot> & ready);

    server_params params_;
    std::shared_ptr<byte_budget> budget_ =
        std::make_shared<byte_budget>(static_cast<size_t>(params_.max_stream_bytes), host_memory_limit(params_));
    decoder_factory make_decoder_;
    pyllama::metrics metrics_;
    service_time service_;
    renderer renderer_{[this] { note_rendered(); }};
    int32_t n_ctx_slot_ = 0;
    int32_t n_ubatch_ = 0;
    bool generates_ = true;  // false for encoders
    bool shifts_ = false;
    bool shares_ = false;    // --share-prefixes, where the memory can
    uint64_t identity_ = 0;  // of what slots are saved with
    bool plain_attention_ = false;
    model_facts facts_;
    embedding_limits embedding_limits_;

    std::shared_ptr<arrivals> arrivals_ = std::make_shared<arrivals>();
    std::atomic<bool> sleeping_{false};
    load_progress wake_progress_;

    // Shared with callers, under mutex_.
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::condition_variable awake_;       // shared_model() waits for it
    std::shared_ptr<const model> model_;  // null while the engine sleeps; the engine thread alone changes it
    lora_set lora_;
    std::vector<slot_task> slot_tasks_;
    bool wake_wanted_ = false;
    uint64_t n_failed_wakes_ = 0;
    std::optional<error> wake_failure_;  // of the last one
    generation::clock::time_point last_used_ = generation::clock::now();
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
    prefix_cache prefixes_;
    std::vector<slot> slots_;
    prompt_cache prompts_;
    std::weak_ptr<const model> last_model_;  // before the sleep: somebody may hold it still
    request_queue queue_;
    std::deque<std::unique_ptr<embedding_task>> embeddings_;
    bool embedded_last_ = false;              // the step before this one made embeddings
    bool resting_ = false;                    // the last step found nothing that could be decoded
    bool copies_wait_ = false;                // between streams, for the next decode
    uint64_t clock_ = 0;                      // counts assignments and releases
    std::unique_ptr<media_encoder> encoder_;  // null for models that read text only
    bool room_changed_ = true;                // a generation ended since one was parked: parked ones may try again

    named_thread thread_;
};

}  // namespace pyllama
