#include "engine.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "log_sink.h"

namespace pyllama {

namespace {

// The chat and grammar code of llama.cpp recurses, and std::regex with it: reserved, not used, memory.
constexpr size_t engine_stack_bytes = 256u * 1024 * 1024;

// Tokens of a prompt behind its last checkpoint: what a template ends a prompt with, and the next prompt has otherwise.
constexpr int32_t behind_last_checkpoint = 4;

}  // namespace

engine::engine(std::shared_ptr<const model> model, const server_params & params, decoder_factory make_decoder)
    : params_(params),
      make_decoder_(std::move(make_decoder)),
      model_(std::move(model)),
      lora_(initial_lora(model_->params())),
      prompts_(budget_, params_.common.cache_ram_mib) {
    std::promise<void> ready;
    auto is_ready = ready.get_future();
    if (params_.max_paused < 0) {
        params_.max_paused = std::max(n_slots() - 1, 1);
    }
    thread_options options;
    options.name = "pyllama-engine";
    options.stack_bytes = engine_stack_bytes;
    thread_ = named_thread(options, [this, &ready] { run(ready); });
    try {
        is_ready.get();
    } catch (...) {
        thread_.join();
        throw;
    }
}

engine::~engine() {
    close();
}

void engine::shutdown(const std::string & message) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (refusing_) {
            return;
        }
        refusing_ = true;
        refusal_ = message;
        commands_.push_back([this, message] { fail_all(error(error_kind::unavailable, message)); });
    }
    wake_.notify_one();
    awake_.notify_all();
}

void engine::close() {
    if (!thread_.joinable()) {
        return;
    }
    shutdown("the engine is closed");
    wake_progress_.stop = true;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
    renderer_.close();
}

std::vector<slot_info> engine::slots() {
    auto answer = std::make_shared<std::promise<std::vector<slot_info>>>();
    auto result = answer->get_future();
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (stopping_) {
            throw error(error_kind::closed, "the engine is closed");
        }
        wake_wanted_ = true;
        commands_.push_back([this, answer] {
            std::vector<slot_info> infos;
            for (const slot & each : slots_) {
                infos.push_back(describe(each, n_ctx_slot_));
            }
            answer->set_value(std::move(infos));
        });
    }
    wake_.notify_one();
    return result.get();
}

// The engine thread's whole life. Nothing may leave it as an exception.
void engine::run(std::promise<void> & ready) {
    try {
        make_context(*model_);
        make_slots();
    } catch (...) {
        decoder_.reset();
        ready.set_exception(std::current_exception());
        return;
    }
    ready.set_value();
    while (wait_for_work()) {
        try {
            if (!sleeping() || wake_up()) {
                step();
            }
        } catch (const std::exception & reason) {
            recover(error(error_kind::engine, std::string("the engine failed: ") + reason.what()));
        } catch (...) {
            recover(error(error_kind::engine, "the engine failed"));
        }
        renderer_.notify();
    }
    fail_all(error(error_kind::unavailable, "the engine is closed"));
    renderer_.notify();
    encoder_.reset();
    scheduler_.reset();
    decoder_.reset();
}

void engine::make_context(const model & source) {
    decoder_ =
        make_decoder_ ? make_decoder_(source, params_.common) : std::make_unique<decoder>(source, params_.common);
    schedule_limits limits;
    limits.n_ubatch = decoder_->n_ubatch();
    limits.alternate = decoder_->alternate();
    limits.lora = !source.params().lora_adapters.empty();
    limits.n_last = decoder_->n_checkpoints() > 0 ? behind_last_checkpoint : 0;
    scheduler_ = std::make_unique<scheduler>(limits, params_.step_budget_ms);
}

void engine::make_slots() {
    if (params_.common.ctx_shift && decoder_->has_memory() && !decoder_->shifts()) {
        log_text(log_level::warn, "--context-shift is not supported by this model: it is off");
    }
    if (params_.common.cache_idle_slots && decoder_->unified() && prompts_.enabled()) {
        log_text(log_level::debug, "idle slots go to the prompt cache __TEST_TAG_CACHE_IDLE_SLOTS_ENABLED__");
    }
    identity_ = state_identity(*model_);
    plain_attention_ = decoder_->has_memory() && has_plain_attention(decoder_->context());
    n_ctx_slot_ = decoder_->n_ctx_slot();
    n_ubatch_ = decoder_->n_ubatch();
    if (model_->media()) {
        encoder_ = std::make_unique<media_encoder>([this] { poke(); });
    }
    embedding_limits_ = decoder_->embeddings();
    generates_ = decoder_->has_memory();
    shifts_ = decoder_->shifts();
    shares_ = params_.share_prefixes && decoder_->has_memory() && decoder_->unified() && decoder_->can_copy();
    slots_.resize(static_cast<size_t>(n_slots()));
    for (size_t i = 0; i < slots_.size(); ++i) {
        slots_[i].id = static_cast<int32_t>(i);
        slots_[i].sequence = static_cast<llama_seq_id>(i);
        slots_[i].cached.join(prefixes_, slots_[i].sequence);
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    n_idle_ = slots_.size();
}

// After an exception in a step nobody knows which tokens the sequences hold.
void engine::recover(const error & reason) {
    fail_all(reason);
    if (!decoder_) {
        return;
    }
    llama_memory_clear(llama_get_memory(decoder_->context()), true);
    for (slot & each : slots_) {
        clear_cache(decoder_->context(), each);
    }
}

// False when the engine is to end.
bool engine::wait_for_work() {
    std::unique_lock<std::mutex> lock(mutex_);
    if (resting_) {
        const auto called = [this] {
            // Asleep, only work counts: a request that was cancelled has ended by then.
            return stopping_ || wake_wanted_ || !commands_.empty() || !submitted_.empty() ||
                   !submitted_embeddings_.empty() || (sleeping() ? !slot_tasks_.empty() : poked_);
        };
        if (const auto limit = next_pause_end()) {
            wake_.wait_until(lock, *limit, called);
        } else if (const auto bedtime = sleep_time()) {
            if (!wake_.wait_until(lock, *bedtime, called) && generation::clock::now() >= *sleep_time()) {
                lock.unlock();
                fall_asleep();
                lock.lock();
                wake_.wait(lock, called);
            }
        } else {
            wake_.wait(lock, called);
        }
        gather(lock);
    }
    poked_ = false;
    wake_wanted_ = wake_wanted_ && sleeping();
    return !stopping_ || !commands_.empty();
}

// Under mutex_. Requests that come together begin together.
void engine::gather(std::unique_lock<std::mutex> & lock) {
    if (sleeping() || submitted_.empty()) {
        return;
    }
    size_t n_tokens = 0;
    for (const auto & each : submitted_) {
        n_tokens += each->tokens().size();
    }
    const double step_ms = scheduler_->first_step_ms(n_tokens);
    const auto since = arrivals::clock::now();
    while (const auto end = arrivals_->worth_waiting(since, step_ms)) {
        wake_.wait_until(lock, *end);
        if (stopping_ || wake_wanted_ || !commands_.empty()) {
            return;
        }
    }
}

void engine::step() {
    relieve();
    drain();
    apply_controls();
    drop_ended();
    park_on_request();
    run_slot_tasks();
    const bool may_embed = !embeddings_.empty() && !embedded_last_;
    embedded_last_ = may_embed && embed();
    if (embedded_last_) {
        resting_ = false;
        return;
    }
    admit();
    end_waits();
    encode_media();
    queue_.tell_positions();
    shift_full_contexts();
    count_running();
    const std::vector<chunk> plan = scheduler_->next(slots_);
    // A long prefill's start is told before its first chunk. Where the step brings tokens anyway, one wake-up
    // after it serves both, and leaves the cores to the decode.
    if (std::any_of(plan.begin(), plan.end(), [](const chunk & part) { return !part.wants_logits; })) {
        renderer_.notify();
    }
    resting_ = plan.empty() && (may_embed || embeddings_.empty());
    if (!plan.empty()) {
        decode(plan);
    }
    count_running();
}

void engine::drain() {
    std::deque<command> commands;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        commands.swap(commands_);
    }
    drain_submissions();
    for (auto & next : commands) {
        next();
    }
}

void engine::drain_submissions() {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto & next : submitted_) {
        queue_.add(std::move(next));
    }
    submitted_.clear();
    for (auto & next : submitted_embeddings_) {
        embeddings_.push_back(std::move(next));
    }
    submitted_embeddings_.clear();
}

void engine::count_running() {
    metrics_.n_running = std::count_if(slots_.begin(), slots_.end(), [](const slot & each) { return !each.is_idle(); });
}

}  // namespace pyllama
