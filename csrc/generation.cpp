#include "generation.h"

#include <algorithm>
#include <utility>

#include "sampler_chain.h"

namespace pyllama {

namespace {

// Tokens of an answer that nothing else limits: a shifted context is never full.
constexpr int32_t most_shifted = 1 << 20;

}  // namespace

generation::generation(std::shared_ptr<const model> model, prepared_request && prepared, const stream_limits & limits,
                       int32_t n_ctx_slot, bool shifts)
    : model_(std::move(model)),
      id_(std::move(prepared.id)),
      params_(std::move(prepared.params)),
      tokens_(std::move(prepared.tokens)),
      media_(std::move(prepared.media)),
      n_prompt_(static_cast<int32_t>(tokens_.size())),
      n_ctx_slot_(n_ctx_slot),
      shifts_(shifts),
      sampler_(model_->vocab(), params_, tokens_),
      indent_(params_.n_indent),
      hold_(params_.stop),
      channel_(std::make_shared<channel>(std::move(prepared.writer), std::make_shared<stream_session>(limits),
                                         prepared.n_answers())),
      control_(std::make_shared<generation_control>(params_.sampling.reasoning_control, std::move(prepared.owner))) {
    show_params();
    end_if_due(nullptr);  // a budget of nothing, and a prompt that opens a block
}

double generation::milliseconds(clock::duration duration) {
    return std::chrono::duration<double, std::milli>(duration).count();
}

// Callers' threads see them by the control, and build changes upon them.
void generation::show_params() {
    if (control_->opted_in()) {
        control_->params = std::make_shared<generation_params>(params_);
    }
}

void generation::change_sampling(sampling_change & change, renderer & render) {
    params_.sampling = change.params.sampling;
    params_.n_predict = change.params.n_predict;
    params_.t_max_predict_ms = change.params.t_max_predict_ms;
    params_.stop = change.params.stop;
    const auto n_said = static_cast<std::ptrdiff_t>(std::min(n_remembered(params_.sampling), tokens_.size()));
    sampler_.take_chain(*change.chain, {tokens_.end() - n_said, tokens_.end()}, change.seeded);
    std::vector<piece> pieces;
    hold_.set_stop(params_.stop, pieces);
    if (n_generated() > 0 && limit_reached()) {
        reason_ = finish_reason::length;
        hold_.flush(pieces);
    }
    release(pieces, render);
}

void generation::cut(renderer & render) {
    cut_ = true;
    reason_ = finish_reason::stop;
    flush(render);
}

void generation::sample(const float * row) {
    if (params_.n_predict == 0) {
        return;  // only the prompt was wanted, in the cache
    }
    if (!params_.labels.empty()) {
        sampled_ = params_.labels.front();
        sampled_logprobs_ = std::make_unique<piece_logprobs>();
        for (const llama_token label : params_.labels) {
            sampled_logprobs_->top.push_back({label, row[label]});
        }
        return;
    }
    try {
        sampled_ = sampler_.sample(row);
        if (params_.n_logprobs >= 0) {
            sampled_logprobs_ = std::make_unique<piece_logprobs>(
                params_.post_sampling_probs ? sampler_.final_logprobs(sampled_, params_.n_logprobs)
                                            : sampler_.logprobs(row, sampled_, params_.n_logprobs));
        }
        sampler_.accept(sampled_);
    } catch (const error & reason) {
        failure_ = reason;
    } catch (const std::exception & reason) {
        failure_ = error(error_kind::engine, std::string("sampling failed: ") + reason.what());
    } catch (...) {
        failure_ = error(error_kind::engine, "sampling failed");
    }
}

std::string generation::text_of(llama_token token) const {
    const bool special = params_.special || params_.sampling.preserved_tokens.count(token) > 0;
    return model_->piece(token, special);
}

int32_t generation::n_keep() const {
    const int32_t n = params_.n_keep < 0 ? n_prompt_ : std::min(params_.n_keep, n_ctx_slot_);
    return n + (llama_vocab_get_add_bos(model_->vocab()) ? 1 : 0);
}

void generation::drop(int32_t begin, int32_t n) {
    tokens_.erase(tokens_.begin() + begin, tokens_.begin() + begin + n);
    n_dropped_ += n;
    truncated_ = true;
}

bool generation::limit_reached() {
    const int32_t most = params_.n_predict < 0 && shifts_ ? most_shifted : params_.n_predict;
    if (most >= 0 && n_generated() >= most) {
        return true;
    }
    if (!shifts_ && static_cast<int32_t>(tokens_.size()) >= n_ctx_slot_) {
        truncated_ = true;
        return true;
    }
    // As in llama-server, in whole lines.
    return params_.t_max_predict_ms > 0 && sampled_any_ && has_line_ &&
           milliseconds(clock::now() - first_token_at_) > static_cast<double>(params_.t_max_predict_ms);
}

bool generation::advance(renderer & render) {
    if (failure_) {
        return false;
    }
    last_token_at_ = clock::now();
    if (!sampled_any_) {
        first_token_at_ = last_token_at_;
        timings_.prompt_ms = milliseconds(first_token_at_ - started_at_);
    }
    if (params_.n_predict == 0) {
        reason_ = finish_reason::length;
        return false;
    }
    sampled_any_ = true;
    tokens_.push_back(sampled_);
    n_fresh_ = 1;
    timings_.n_decoded = n_generated();
    timings_.decode_ms = milliseconds(last_token_at_ - first_token_at_);

    std::vector<piece> pieces = std::exchange(early_, {});
    if (llama_vocab_is_eog(model_->vocab(), sampled_)) {
        reason_ = finish_reason::stop;
        hold_.flush(pieces);
    } else {
        piece next;
        next.token = sampled_;
        next.text = text_of(sampled_);
        next.logprobs = std::move(sampled_logprobs_);
        if (params_.timings_per_token) {
            next.timings = std::make_unique<generation_timings>(timings_);
        }
        const size_t n_indented = indent_.accept(next.text);
        const bool ill_indented = n_indented < next.text.size();
        next.text.resize(n_indented);
        has_line_ = has_line_ || next.text.find('\n') != std::string::npos;
        if (const std::string * stop = hold_.add(std::move(next), pieces)) {
            reason_ = finish_reason::stop;
            stop_string_ = *stop;
        } else if (ill_indented || limit_reached()) {
            reason_ = finish_reason::length;
            hold_.flush(pieces);
        }
    }
    release(pieces, render);
    for (waiting_text & each : waiting_texts_) {
        ++each.n_waited;
    }
    force_due(render);
    return !reason_;
}

}  // namespace pyllama
