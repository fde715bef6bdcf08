// Steps that make embeddings. They are of a batch class of their own: the context puts out logits or embeddings, not
// both. So a step is the one or the other, by turns while both have work.

#include <algorithm>

#include "engine.h"

namespace pyllama {

submitted engine::submit_embedding(prepared_request && prepared) {
    auto next = std::make_unique<embedding_task>(std::move(prepared), stream_limits{0, budget_});
    next->lora = lora();
    submitted handle{next->id, next->output->session(), next->control, {next->control}};
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        enter_queue(1);
        submitted_embeddings_.push_back(std::move(next));
    }
    wake_.notify_one();
    return handle;
}

// The next inputs, in order of their requests, as many as one step takes: a sequence for each, a ubatch for all. One
// with media is alone, and waits until that is encoded.
std::vector<embedding_part> engine::next_inputs() {
    std::vector<embedding_part> parts;
    int32_t budget = std::min(decoder_->n_ubatch(), decoder_->n_ctx());
    auto free_slot = slots_.begin();
    for (const auto & task : embeddings_) {
        if (!same_set(task->lora, embeddings_.front()->lora)) {
            return parts;
        }
        for (size_t i = task->n_done; i < task->inputs.size(); ++i) {
            free_slot = std::find_if(free_slot, slots_.end(), [](const slot & each) { return each.is_idle(); });
            const auto n = static_cast<int32_t>(task->inputs[i].size());
            // Where a batch may be split into passes, an input of its own must not be: it would be pooled in parts.
            const bool full = n > budget || (decoder_->alternate() && decoder_->has_memory());
            if (free_slot == slots_.end() || (!parts.empty() && full)) {
                return parts;
            }
            const auto * media = task->media_of(i);
            if (media != nullptr && (!parts.empty() || !encoded(*media))) {
                return parts;
            }
            budget -= n;
            put_away(*free_slot);
            parts.push_back({&task->inputs[i], free_slot->sequence, {}, media});
            ++free_slot;
            if (media != nullptr) {
                return parts;
            }
        }
    }
    return parts;
}

// False when nothing could be done: every slot runs, or the KV cache has no room until one of them ends.
bool engine::embed() {
    std::vector<embedding_part> parts = next_inputs();
    if (parts.empty()) {
        return false;
    }
    if (parts.front().media != nullptr && has_failed(*parts.front().media)) {
        fail_embedding(error(error_kind::engine, "an image of the input could not be encoded"));
        return true;
    }
    const auto begin = generation::clock::now();
    decoder_->use(embeddings_.front()->lora);
    const decode_status status = decoder_->embed(parts);
    const bool runs = std::any_of(slots_.begin(), slots_.end(), [](const slot & each) { return !each.is_idle(); });
    if (status == decode_status::no_room && (evict_idle() || runs)) {
        return !runs;
    }
    if (status != decode_status::ok) {
        fail_embedding(error(error_kind::engine, status == decode_status::no_room
                                                     ? "the KV cache has no room for the input"
                                                     : "the model could not be evaluated (code " +
                                                           std::to_string(decoder_->last_code()) + ")"));
        return true;
    }
    take_rows(parts);
    metrics_.prompt_us += static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(generation::clock::now() - begin).count());
    return true;
}

void engine::take_rows(std::vector<embedding_part> & parts) {
    metrics_.n_steps++;
    metrics_.n_busy_slots += parts.size();
    for (embedding_part & part : parts) {
        embedding_task & task = *embeddings_.front();
        metrics_.n_prompt_tokens += part.tokens->size();
        metrics_.n_step_tokens += part.tokens->size();
        task.results->rows[task.n_done++] = std::move(part.rows);
        if (task.done()) {
            task.finish(renderer_);
            metrics_.n_finished++;
            drop_embedding();
        }
    }
}

void engine::fail_embedding(error reason) {
    embeddings_.front()->fail(std::move(reason), renderer_);
    metrics_.n_failed++;
    drop_embedding();
}

void engine::drop_embedding() {
    embeddings_.pop_front();
    left_queue(1);
}

void engine::drop_cancelled_embeddings() {
    for (auto it = embeddings_.begin(); it != embeddings_.end();) {
        if (!(*it)->control->group->cancelled.load(std::memory_order_relaxed)) {
            ++it;
            continue;
        }
        (*it)->fail(error(error_kind::unavailable, "the request was cancelled"), renderer_);
        metrics_.n_cancelled++;
        it = embeddings_.erase(it);
        left_queue(1);
    }
}

}  // namespace pyllama
