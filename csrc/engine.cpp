#include "engine.h"

#include <algorithm>
#include <exception>
#include <iterator>
#include <utility>

#include "settings_json.h"

namespace pyllama {

namespace {

// The chat and grammar code of llama.cpp recurses, and std::regex with it: reserved, not used, memory.
constexpr size_t engine_stack_bytes = 256u * 1024 * 1024;

const char * state_name(slot_state state) {
    switch (state) {
        case slot_state::idle: return "idle";
        case slot_state::reserved: return "reserved";
        case slot_state::prefill: return "prefill";
        case slot_state::paused: return "paused";
        case slot_state::decode: break;
    }
    return "decode";
}

}  // namespace

engine::engine(std::shared_ptr<const model> model, const server_params & params, decoder_factory make_decoder)
    : model_(std::move(model)), params_(params), make_decoder_(std::move(make_decoder)) {
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

submitted engine::submit(prepared_request && prepared) {
    if (prepared.embeddings) {
        return submit_embedding(std::move(prepared));
    }
    if (!generates_) {
        throw error(error_kind::unsupported, "this model makes embeddings: it cannot generate text");
    }
    if (prepared.params.id_slot >= n_slots()) {
        throw bad_request("id_slot " + std::to_string(prepared.params.id_slot) + " does not exist: there are " +
                              std::to_string(n_slots()) + " slots",
                          "id_slot");
    }
    const int32_t n_choices = prepared.n_choices;
    if (n_choices > n_slots()) {
        throw bad_request(
            "n " + std::to_string(n_choices) + " is too large: there are " + std::to_string(n_slots()) + " slots", "n");
    }
    const size_t capacity = prepared.stream ? static_cast<size_t>(params_.stream_buffer_bytes) : 0;
    const std::vector<further_prompt> more_prompts = prepared.more_prompts;
    std::vector<std::unique_ptr<generation>> leaders;
    leaders.push_back(std::make_unique<generation>(model_, std::move(prepared), capacity, n_ctx_slot_));
    const generation & first = *leaders.front();
    for (const further_prompt & prompt : more_prompts) {
        const int32_t choice = n_choices * static_cast<int32_t>(leaders.size());
        leaders.push_back(std::make_unique<generation>(first, choice, prompt));
    }
    submitted handle{first.id(), first.output()->session(), first.control(), {}};
    for (const auto & leader : leaders) {
        handle.choices.push_back(leader->control());
        for (int32_t n = 1; n < n_choices; ++n) {
            leader->add_follower(std::make_unique<generation>(*leader, n));
            handle.choices.push_back(leader->followers().back()->control());
        }
    }
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        enter_queue(leaders.size() * static_cast<size_t>(n_choices));
        std::move(leaders.begin(), leaders.end(), std::back_inserter(submitted_));
    }
    wake_.notify_one();
    return handle;
}

// Under mutex_. n: slots that the request needs, at some time.
void engine::enter_queue(size_t n) {
    if (refusing_) {
        throw error(error_kind::unavailable, refusal_);
    }
    const bool can_start = n_waiting_ + n <= n_idle_;
    const auto max_queue = static_cast<size_t>(params_.max_queue);
    if (!can_start && (max_queue == 0 || n_waiting_ >= max_queue + n_idle_)) {
        metrics_.n_rejected++;
        throw error(error_kind::busy, "too many requests are waiting (" + std::to_string(n_waiting_) + ")");
    }
    n_waiting_ += n;
    metrics_.n_requests++;
    metrics_.n_queued += static_cast<int64_t>(n);
}

void engine::cancel(const std::shared_ptr<generation_control> & control) {
    control->group->cancelled.store(true, std::memory_order_relaxed);
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        poked_ = true;
    }
    wake_.notify_one();
}

bool engine::control(generation_control & target, posted_control && control) {
    if (!target.post(std::move(control))) {
        return false;
    }
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        poked_ = true;
    }
    wake_.notify_one();
    return true;
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
}

void engine::close() {
    if (!thread_.joinable()) {
        return;
    }
    shutdown("the engine is closed");
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
        commands_.push_back([this, answer] {
            std::vector<slot_info> infos;
            for (const slot & each : slots_) {
                infos.push_back(describe(each));
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
        decoder_ =
            make_decoder_ ? make_decoder_(*model_, params_.common) : std::make_unique<decoder>(*model_, params_.common);
        make_slots();
    } catch (...) {
        decoder_.reset();
        ready.set_exception(std::current_exception());
        return;
    }
    ready.set_value();
    while (wait_for_work()) {
        try {
            step();
        } catch (const std::exception & reason) {
            recover(error(error_kind::engine, std::string("the engine failed: ") + reason.what()));
        } catch (...) {
            recover(error(error_kind::engine, "the engine failed"));
        }
        renderer_.notify();
    }
    fail_all(error(error_kind::unavailable, "the engine is closed"));
    renderer_.notify();
    scheduler_.reset();
    decoder_.reset();
}

void engine::make_slots() {
    scheduler_ = std::make_unique<scheduler>(schedule_limits{decoder_->n_ubatch(), decoder_->alternate()});
    n_ctx_slot_ = decoder_->n_ctx_slot();
    embedding_limits_ = decoder_->embeddings();
    generates_ = decoder_->has_memory();
    slots_.resize(static_cast<size_t>(n_slots()));
    for (size_t i = 0; i < slots_.size(); ++i) {
        slots_[i].id = static_cast<int32_t>(i);
        slots_[i].sequence = static_cast<llama_seq_id>(i);
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    n_idle_ = slots_.size();
}

// After an exception in a step nobody knows which tokens the sequences hold.
void engine::recover(const error & reason) {
    fail_all(reason);
    llama_memory_clear(llama_get_memory(decoder_->context()), true);
    for (slot & each : slots_) {
        each.cached.clear();
    }
}

// False when the engine is to end.
bool engine::wait_for_work() {
    std::unique_lock<std::mutex> lock(mutex_);
    if (resting_) {
        const auto called = [this] {
            return stopping_ || poked_ || !commands_.empty() || !submitted_.empty() || !submitted_embeddings_.empty();
        };
        if (const auto limit = next_pause_end()) {
            wake_.wait_until(lock, *limit, called);
        } else {
            wake_.wait(lock, called);
        }
    }
    poked_ = false;
    return !stopping_ || !commands_.empty();
}

void engine::step() {
    drain();
    apply_controls();
    drop_ended();
    const bool may_embed = !embeddings_.empty() && !embedded_last_;
    embedded_last_ = may_embed && embed();
    if (embedded_last_) {
        resting_ = false;
        return;
    }
    admit();
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
        queue_.push_back(std::move(next));
    }
    submitted_.clear();
    for (auto & next : submitted_embeddings_) {
        embeddings_.push_back(std::move(next));
    }
    submitted_embeddings_.clear();
}

// What was cancelled or stopped, and what reached a limit by forced text, wherever it is.
void engine::drop_ended() {
    drop_cancelled_embeddings();
    for (slot & each : slots_) {
        if (!each.running) {
            continue;
        }
        const int32_t n_before = each.running->n_slots_needed();
        each.running = still_open(std::move(each.running));
        if (!each.running) {
            release(each);
        } else {
            unreserve(each, static_cast<size_t>(n_before - each.running->n_slots_needed()));
        }
    }
    for (auto it = queue_.begin(); it != queue_.end();) {
        const int32_t n_before = (*it)->n_slots_needed();
        *it = still_open(std::move(*it));
        left_queue(static_cast<size_t>(n_before - (*it ? (*it)->n_slots_needed() : 0)));
        it = *it ? std::next(it) : queue_.erase(it);
    }
}

// n: slots that are not waited for any more.
void engine::left_queue(size_t n) {
    if (n > 0) {
        const std::lock_guard<std::mutex> lock(mutex_);
        n_waiting_ -= n;
        metrics_.n_queued -= static_cast<int64_t>(n);
    }
}

void engine::release(slot & target) {
    target.running.reset();
    target.last_used = ++clock_;
    room_changed_ = true;
    unreserve(target, slots_.size());
    const std::lock_guard<std::mutex> lock(mutex_);
    n_idle_++;
}

void engine::finish(slot & target, finish_reason reason) {
    finish(*target.running, reason);
    release(target);
}

void engine::fail(slot & target, const error & reason) {
    fail(*target.running, reason);
    release(target);
}

// A leader's followers end with it.
void engine::finish(generation & ended, finish_reason reason) {
    metrics_.n_generated_tokens += static_cast<uint64_t>(ended.take_uncounted());
    ended.finish(reason, renderer_);
    count_end(ended);
    for (const auto & follower : ended.followers()) {
        finish(*follower, reason);
    }
}

void engine::fail(generation & ended, const error & reason) {
    ended.fail(reason, renderer_);
    count_end(ended);
    for (const auto & follower : ended.followers()) {
        fail(*follower, reason);
    }
}

// A request counts once, when its last choice ends.
void engine::count_end(const generation & ended) {
    choice_group & request = *ended.control()->group;
    request.has_answer = request.has_answer || !ended.failure();
    if (--request.n_open > 0) {
        return;
    }
    if (!request.has_answer) {
        metrics_.n_failed++;
    } else if (ended.reason() == finish_reason::cancelled) {
        metrics_.n_cancelled++;
    } else {
        metrics_.n_finished++;
    }
}

void engine::fail_all(const error & reason) {
    drain_submissions();
    for (slot & each : slots_) {
        if (each.running) {
            each.running->fail_request(reason, renderer_);
            fail(each, reason);
        }
    }
    for (auto & waiting : queue_) {
        left_queue(static_cast<size_t>(waiting->n_slots_needed()));
        waiting->fail_request(reason, renderer_);
        fail(*waiting, reason);
    }
    queue_.clear();
    while (!embeddings_.empty()) {
        fail_embedding(reason);
    }
    count_running();
}

slot_info engine::describe(const slot & target) const {
    slot_info info;
    info.id = target.id;
    info.n_ctx = n_ctx_slot_;
    info.n_cached = static_cast<int32_t>(target.cached.size());
    const slot & shown = target.reserved_for != nullptr ? *target.reserved_for : target;
    if (shown.running) {
        const generation & running = *shown.running;
        info.busy = true;
        info.state = state_name(target.state());
        info.request_id = running.id();
        info.choice = running.choice();
        info.n_prompt = running.n_prompt();
        info.n_prompt_cached = running.timings().n_cached;
        info.n_decoded = running.n_generated();
        info.params = settings_json(running.params());
    } else {
        info.state = state_name(slot_state::idle);
    }
    return info;
}

void engine::count_running() {
    metrics_.n_running = std::count_if(slots_.begin(), slots_.end(), [](const slot & each) { return !each.is_idle(); });
}

}  // namespace pyllama
