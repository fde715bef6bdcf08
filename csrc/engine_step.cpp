// One step of the engine thread: decode a ubatch, sample, advance.

#include <algorithm>
#include <limits>

#include "engine.h"
#include "team.h"

namespace pyllama {

namespace {

// Below this many logits a step's sampling is not worth sharing out.
constexpr int64_t team_worth = 100000;

// Tokens of the chunk whose cost the metrics show.
constexpr int32_t n_estimated = 64;

uint64_t microseconds(generation::clock::duration duration) {
    return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(duration).count());
}

}  // namespace

void engine::decode(const std::vector<chunk> & plan) {
    const auto begin = generation::clock::now();
    switch (decoder_->decode(plan)) {
        case decode_status::no_room: make_room(plan); return;
        case decode_status::failed: fail_decode(plan); return;
        case decode_status::ok: break;
    }
    account(plan, generation::clock::now() - begin);
    const std::vector<ready_slot> ready = ready_slots(plan);
    sample(ready);
    advance(ready);
    learn(generation::clock::now() - begin);
}

// What the step took, sampling included, is what the next ones are chosen by.
void engine::learn(generation::clock::duration elapsed) {
    scheduler_->observe(std::chrono::duration<double, std::milli>(elapsed).count());
    const step_demand & demand = scheduler_->demand();
    const step_budget & budget = scheduler_->budget();
    metrics_.step_decode_ms = budget.cost().decode(std::max(1, demand.n_decoding));
    metrics_.step_token_ms = budget.cost().prefill(n_estimated, demand.n_cells, 0) / n_estimated;
    if (demand.n_decoding > 0) {
        metrics_.step_budget_ms = std::max(0.0, budget.ms(demand));
        step_demand any = demand;
        any.n_pending = std::numeric_limits<int32_t>::max();
        metrics_.step_prompt_tokens = budget.n_tokens(any);
    }
}

void engine::account(const std::vector<chunk> & plan, generation::clock::duration elapsed) {
    uint64_t n_prefill = 0;
    uint64_t n_tokens = 0;
    for (slot & each : slots_) {
        each.unsettled = false;
    }
    copies_wait_ = false;
    for (const chunk & part : plan) {
        slot & target = *part.target;
        const auto & tokens = target.running->tokens();
        const auto n = static_cast<uint64_t>(part.end - part.begin);
        const int32_t n_before_fresh = static_cast<int32_t>(tokens.size()) - target.running->n_fresh();
        if (const int32_t n_prompt = std::min(part.end, n_before_fresh) - part.begin; n_prompt > 0) {
            n_prefill += static_cast<uint64_t>(n_prompt);
            target.running->note_prefill(n_prompt, renderer_);
        }
        n_tokens += n;
        target.cached.append(tokens.begin() + part.begin, tokens.begin() + part.end);
        forget_media(target, part.begin);
        if (decoder_->n_checkpoints() > 0 && part.end < n_before_fresh) {
            note_checkpoint(target);
        }
        metrics_.n_tokens_max = std::max<uint64_t>(metrics_.n_tokens_max, target.cached.size());
    }
    // A mixed step's time is shared out by tokens.
    metrics_.prompt_us += microseconds(elapsed) * n_prefill / n_tokens;
    metrics_.generation_us += microseconds(elapsed) * (n_tokens - n_prefill) / n_tokens;
    metrics_.n_prompt_tokens += n_prefill;
    metrics_.n_steps++;
    metrics_.n_step_tokens += n_tokens;
    metrics_.n_busy_slots += plan.size();
}

std::vector<engine::ready_slot> engine::ready_slots(const std::vector<chunk> & plan) {
    std::vector<ready_slot> ready;
    for (size_t i = 0; i < plan.size(); ++i) {
        if (plan[i].wants_logits) {
            fork(*plan[i].target, decoder_->row(i), ready);
            take_row(*plan[i].target, decoder_->row(i), ready);
        }
    }
    return ready;
}

void engine::sample(const std::vector<ready_slot> & ready) {
    const auto one = [&](size_t i) { ready[i].target->running->sample(ready[i].row); };
    const bool shared = static_cast<int64_t>(ready.size()) * model_->n_vocab() >= team_worth;
    parallel_for(ready.size(), shared ? decoder_->n_threads() : 1, one);
}

void engine::advance(const std::vector<ready_slot> & ready) {
    for (const ready_slot & each : ready) {
        slot & target = *each.target;
        const auto previous = target.running->last_token_at();
        const bool goes_on = target.running->advance(renderer_);
        measure_token(*target.running, previous);
        metrics_.n_generated_tokens += static_cast<uint64_t>(target.running->take_uncounted());
        if (target.running->failure()) {
            fail(target, *target.running->failure());
            continue;
        }
        if (!goes_on) {
            finish(target, *target.running->reason());
        }
    }
}

void engine::measure_token(const generation & running, std::optional<generation::clock::time_point> previous) {
    const auto seconds = [&](generation::clock::time_point since) {
        return std::chrono::duration<double>(*running.last_token_at() - since).count();
    };
    if (!running.last_token_at() || running.last_token_at() == previous) {
        return;  // nothing was sampled
    }
    if (previous) {
        metrics_.token_gap.observe(seconds(*previous));
    } else if (running.choice() == 0) {
        metrics_.time_to_first_token.observe(seconds(running.created_at()));
    }
}

// The requests of the failed batch fail; the others' sequences were not touched.
void engine::fail_decode(const std::vector<chunk> & plan) {
    const error reason(error_kind::engine,
                       "the model could not be evaluated (code " + std::to_string(decoder_->last_code()) + ")");
    for (const chunk & part : plan) {
        fail(*part.target, reason);
        clear_cache(decoder_->context(), *part.target);
    }
}

}  // namespace pyllama
