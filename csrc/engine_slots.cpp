// Saving, restoring and emptying slots. Files are read, checked and written on the caller's thread; the engine thread
// only copies the state out of the memory and into it, at the top of a step and once the slot is idle.

#include <algorithm>
#include <chrono>

#include "engine.h"
#include "slot_directory.h"

namespace pyllama {

namespace {

constexpr size_t most_waiting = 64;

double milliseconds_since(generation::clock::time_point begin) {
    return std::chrono::duration<double, std::milli>(generation::clock::now() - begin).count();
}

slot_directory directory_of(const server_params & params) {
    if (params.common.slot_save_path.empty()) {
        throw error(error_kind::unsupported,
                    "This server does not support slots action. Start it with `--slot-save-path`");
    }
    return slot_directory(params.common.slot_save_path);
}

}  // namespace

void engine::check_slot(int32_t id) const {
    if (id < 0 || id >= n_slots()) {
        throw bad_request("Invalid slot ID", "id_slot");
    }
    if (!generates_) {
        throw error(error_kind::unsupported, "this model makes embeddings: its slots hold nothing");
    }
}

slot_action_result engine::save_slot(int32_t id, const std::string & filename) {
    const slot_directory directory = directory_of(params_);
    slot_directory::check_name(filename);
    check_slot(id);
    generation::clock::time_point begin;
    saved_sequence saved;
    uint64_t identity = 0;
    when_idle(id, [&](slot & target) {
        begin = generation::clock::now();
        if (!target.domain.empty() && !target.cached.empty()) {
            throw error(error_kind::unsupported,
                        "the slot's prompt has a cache_salt, or is one key's: a file would not keep it apart");
        }
        saved = save_sequence(decoder_->context(), target);
        identity = identity_;
    });
    const slot_file_parts parts = pack_slot_file(saved, identity);
    slot_action_result result;
    result.n_tokens = static_cast<int32_t>(saved.tokens.size());
    result.n_bytes = directory.write(filename, {{parts.head.data(), parts.head.size()},
                                                {saved.state.data() + state_head, saved.state.size() - state_head},
                                                {parts.tail.data(), parts.tail.size()}});
    result.ms = milliseconds_since(begin);
    return result;
}

slot_action_result engine::restore_slot(int32_t id, const std::string & filename) {
    const slot_directory directory = directory_of(params_);
    slot_directory::check_name(filename);
    check_slot(id);
    const std::shared_ptr<const model> source = shared_model();
    std::vector<uint8_t> file = directory.read(filename);
    slot_file_limits limits;
    limits.media = source->media() != nullptr;
    limits.identity = identity_;
    limits.n_ctx = n_ctx_slot_;
    limits.n_vocab = source->n_vocab();
    limits.n_adapters = source->params().lora_adapters.size();
    limits.n_checkpoints = static_cast<size_t>(params_.common.n_ctx_checkpoints);
    limits.plain_attention = plain_attention_;
    slot_file_contents contents = parse_slot_file(file, limits);
    if (!contents.lora) {
        contents.lora = initial_lora(source->params());
    }
    generation::clock::time_point begin;
    when_idle(id, [&](slot & target) {
        begin = generation::clock::now();
        restore(target, file, contents);
    });
    return {static_cast<int32_t>(contents.tokens.size()), contents.n_read, milliseconds_since(begin)};
}

slot_action_result engine::erase_slot(int32_t id) {
    directory_of(params_);
    check_slot(id);
    slot_action_result result;
    when_idle(id, [&](slot & target) {
        result.n_tokens = static_cast<int32_t>(target.cached.size());
        clear_cache(decoder_->context(), target);
    });
    return result;
}

// Puts what stands in front of a state in memory, a mark and a sequence, over the end of the tokens in the file.
void engine::restore(slot & target, std::vector<uint8_t> & file, slot_file_contents & contents) {
    put_away(target);
    if (contents.tokens.empty()) {
        return;
    }
    const saved_sequence empty = save_sequence(decoder_->context(), target);
    saved_sequence saved{std::move(contents.tokens), contents.lora, {}, contents.n_exact, {}, {}};
    const auto begin = file.begin() + static_cast<std::ptrdiff_t>(contents.state_begin - state_head);
    std::copy_n(empty.state.begin(), state_head, begin);
    saved.state.assign(begin, begin + static_cast<std::ptrdiff_t>(state_head + contents.state_size));
    saved.checkpoints = std::move(contents.checkpoints);
    for (checkpoint & each : saved.checkpoints) {
        each.data.charge(budget_, memory_part::checkpoints);
    }
    bool loaded = load(saved, target);
    while (!loaded && decoder_->unified() && evict_idle()) {
        loaded = load(saved, target);
    }
    contents.tokens = std::move(saved.tokens);
    if (!loaded) {
        throw bad_request("Unable to restore slot: the KV cache has no room, or is of another layout", "filename");
    }
}

// Runs on the engine thread, between two steps, once the slot is idle. Waits for it, and throws what it throws.
void engine::when_idle(int32_t id, std::function<void(slot &)> run) {
    const auto done = std::make_shared<std::promise<void>>();
    auto result = done->get_future();
    slot_task task;
    task.id = id;
    task.run = [done, run = std::move(run)](slot & target) {
        try {
            run(target);
            done->set_value();
        } catch (...) {
            done->set_exception(std::current_exception());
        }
    };
    task.fail = [done](const error & reason) { done->set_exception(std::make_exception_ptr(reason)); };
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (refusing_) {
            throw error(error_kind::unavailable, refusal_);
        }
        if (slot_tasks_.size() >= most_waiting) {
            throw error(error_kind::busy, "too many actions wait for their slots");
        }
        last_used_ = generation::clock::now();
        slot_tasks_.push_back(std::move(task));
        poked_ = true;
    }
    wake_.notify_one();
    result.get();
}

void engine::run_slot_tasks() {
    std::vector<slot_task> due;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        for (auto it = slot_tasks_.begin(); it != slot_tasks_.end();) {
            if (slots_[static_cast<size_t>(it->id)].is_idle()) {
                due.push_back(std::move(*it));
                it = slot_tasks_.erase(it);
            } else {
                ++it;
            }
        }
    }
    for (const slot_task & task : due) {
        task.run(slots_[static_cast<size_t>(task.id)]);
    }
}

void engine::fail_slot_tasks(const error & reason) {
    std::vector<slot_task> failed;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        failed.swap(slot_tasks_);
    }
    for (const slot_task & task : failed) {
        task.fail(reason);
    }
}

}  // namespace pyllama
