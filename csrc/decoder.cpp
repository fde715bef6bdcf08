#include "decoder.h"

#include <algorithm>

#include "checkpoint.h"
#include "context_shift.h"
#include "errors.h"
#include "media_token.h"
#include "team.h"

namespace pyllama {

namespace {

// Tokens of a step that makes embeddings. llama.cpp asserts that the largest step, which a causal model's context
// limits, divides evenly among the sequences.
uint32_t embedding_step(const model & model, const llama_context_params & options) {
    const uint32_t n_seq = options.n_seq_max;
    const auto even = [n_seq](uint32_t n) { return std::max(n / n_seq * n_seq, n_seq); };
    const uint32_t n_ctx =
        options.n_ctx > 0 ? options.n_ctx : static_cast<uint32_t>(llama_model_n_ctx_train(model.handle()));
    uint32_t step = even(std::min(options.n_batch, options.n_ubatch));
    for (const uint32_t limit : {(n_ctx + 255) / 256 * 256, n_ctx}) {
        step = limit < step && limit % n_seq != 0 ? even(limit) : step;
    }
    return step;
}

}  // namespace

decoder::decoder(const model & model, const common_params & params) : params_(model.params()) {
    auto options = common_context_params_to_llama(params);
    // One row of logits per slot and step is all that is ever asked for; more would reserve n_vocab floats each.
    options.n_outputs_max = static_cast<uint32_t>(std::max(1, params.n_parallel));
    options.n_outputs_max_per_seq = 1;
    options.n_batch = std::max(options.n_batch, options.n_seq_max);
    if (params.embedding) {
        // Embeddings come out of every token, and a batch that is not causal must be one ubatch.
        options.n_batch = options.n_ubatch = embedding_step(model, options);
        options.n_outputs_max = options.n_batch;
    }
    context_.reset(llama_init_from_model(model.handle(), options));
    if (!context_) {
        throw error(error_kind::model_load,
                    "no context could be made for the model: too little memory, or options that it does not support");
    }
    threadpools_.init(context_.get(), params);
    batch_.reset(llama_batch_ext_init(context_.get()));

    n_ctx_slot_ = static_cast<int32_t>(llama_n_ctx_seq(context_.get()));
    if (params.kv_unified_per_slot > 0) {
        n_ctx_slot_ = std::min(n_ctx_slot_, params.kv_unified_per_slot);
    }
    n_ctx_slot_ = std::min(n_ctx_slot_, llama_model_n_ctx_train(model.handle()));
    n_threads_ = options.n_threads;
    spreads_ =
        options.n_threads == options.n_threads_batch && (params.n_gpu_layers == 0 || !llama_supports_gpu_offload());
    embedding_ = embeddings_ = params.embedding;
    unified_ = params.kv_unified || params.n_parallel == 1;
    alternate_ = !unified_ || llama_model_is_recurrent(model.handle()) || llama_model_is_hybrid(model.handle());
    can_copy_ = !unified_ || params.swa_full || llama_model_n_swa(model.handle()) == 0;
    if (has_memory()) {
        // A shift would cut media.
        const bool movable = !model.media() && can_shift(context_.get(), params);
        shifts_ = params.ctx_shift && movable;
        can_share_ = unified_ && !has_states(context_.get()) && llama_model_n_swa(model.handle()) == 0;
        moves_chunks_ = movable && !has_states(context_.get());
        n_checkpoints_ = needs_checkpoints(context_.get(), params.swa_full) ? params.n_ctx_checkpoints : 0;
    }
    apply_control_vectors(context_.get(), params);
    if (params.warmup) {
        warm_up(model);
    }
}

void decoder::use(const lora_set & set) {
    if (!same_set(lora_, set)) {
        apply_lora(context_.get(), params_, set);
        lora_ = set;
    }
}

int32_t decoder::n_ctx() const {
    return static_cast<int32_t>(llama_n_ctx(context_.get()));
}

int32_t decoder::n_ubatch() const {
    return static_cast<int32_t>(llama_n_ubatch(context_.get()));
}

// Touches all weights once, so that the first request does not pay for it.
void decoder::warm_up(const model & model) {
    llama_token token = llama_vocab_bos(model.vocab());
    if (token == LLAMA_TOKEN_NULL) {
        token = llama_vocab_eos(model.vocab());
    }
    llama_batch_ext_clear(batch_.get());
    const int32_t index = llama_batch_ext_add_token(batch_.get(), 0, token == LLAMA_TOKEN_NULL ? 0 : token);
    const llama_pos position = 0;
    llama_batch_ext_set_pos(batch_.get(), index, &position);
    llama_batch_ext_set_output_logits(batch_.get(), index, true);
    llama_process(context_.get(), LLAMA_PROCESS_TYPE_DECODE, batch_.get());
    llama_memory_clear(llama_get_memory(context_.get()), true);
    llama_synchronize(context_.get());
    llama_perf_context_reset(context_.get());
}

bool decoder::add(llama_seq_id sequence, llama_token token, llama_pos position, bool output) {
    const int32_t index = llama_batch_ext_add_token(batch_.get(), sequence, token);
    if (index < 0) {
        last_code_ = index;
        return false;
    }
    llama_batch_ext_set_pos(batch_.get(), index, &position);
    if (output) {
        llama_batch_ext_set_output_logits(batch_.get(), index, true);
    }
    return true;
}

void decoder::settle(llama_seq_id sequence) {
    put_out(false);
    llama_batch_ext_clear(batch_.get());
    if (add(sequence, 0, 0, true)) {
        process();
    }
    llama_memory_seq_rm(llama_get_memory(context_.get()), sequence, -1, -1);
}

// libgomp's workers go to sleep when they have spun for about as long.
void decoder::wake_team() {
    constexpr std::chrono::milliseconds awake{1};
    if (spreads_ && std::chrono::steady_clock::now() - processed_ > awake) {
        spread_team(n_threads_);
    }
}

decode_status decoder::process() {
    wake_team();
    last_code_ = llama_process(context_.get(), LLAMA_PROCESS_TYPE_DECODE, batch_.get());
    if (last_code_ == 1) {
        return decode_status::no_room;
    }
    if (last_code_ != 0) {
        return decode_status::failed;
    }
    llama_synchronize(context_.get());
    processed_ = std::chrono::steady_clock::now();
    return decode_status::ok;
}

decode_status decoder::decode(const std::vector<chunk> & plan) {
    put_out(false);
    use(plan.front().target->running->params().lora);
    rows_.assign(plan.size(), nullptr);
    if (const media_span * span = plan.front().target->next_media()) {
        return decode_media(plan.front(), *span);
    }
    std::vector<int32_t> outputs(plan.size(), -1);
    llama_batch_ext_clear(batch_.get());
    int32_t index = 0;
    for (size_t i = 0; i < plan.size(); ++i) {
        const chunk & part = plan[i];
        const auto & tokens = part.target->running->tokens();
        llama_pos position = n_positions(tokens, static_cast<size_t>(part.begin));
        for (int32_t at = part.begin; at < part.end; ++at, ++position, ++index) {
            const bool output = part.wants_logits && at + 1 == part.end;
            if (!add(part.target->sequence, tokens[static_cast<size_t>(at)], position, output)) {
                return decode_status::failed;
            }
            outputs[i] = output ? index : -1;
        }
    }
    const decode_status status = process();
    if (status != decode_status::ok) {
        return status;
    }
    for (size_t i = 0; i < plan.size(); ++i) {
        if (outputs[i] >= 0) {
            rows_[i] = llama_get_logits_ith(context_.get(), outputs[i]);
        }
    }
    return decode_status::ok;
}

}  // namespace pyllama
