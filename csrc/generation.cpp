#include "generation.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "sampler_chain.h"

namespace pyllama {

namespace {

double milliseconds(generation::clock::duration duration) {
    return std::chrono::duration<double, std::milli>(duration).count();
}

generation_params params_beside(generation_params params, int32_t n) {
    params.sampling.seed += static_cast<uint32_t>(n);
    params.return_progress = false;  // the leader tells it
    return params;
}

generation_params params_of_prompt(generation_params params, const further_prompt & prompt) {
    params.reasoning.open = prompt.reasoning_open;
    return params;
}

}  // namespace

generation::generation(std::shared_ptr<const model> model, prepared_request && prepared, size_t stream_capacity,
                       int32_t n_ctx_slot)
    : model_(std::move(model)),
      id_(std::move(prepared.id)),
      params_(std::move(prepared.params)),
      tokens_(std::move(prepared.tokens)),
      n_prompt_(static_cast<int32_t>(tokens_.size())),
      n_ctx_slot_(n_ctx_slot),
      sampler_(model_->vocab(), params_, tokens_),
      indent_(params_.n_indent),
      hold_(params_.stop),
      channel_(std::make_shared<channel>(std::move(prepared.writer), std::make_shared<stream_session>(stream_capacity),
                                         prepared.n_answers())),
      control_(std::make_shared<generation_control>(params_.sampling.reasoning_control, std::move(prepared.owner))) {
    show_params();
    end_if_due(nullptr);  // a budget of nothing, and a prompt that opens a block
}

generation::generation(const generation & leader, int32_t n)
    : model_(leader.model_),
      id_(leader.id_),
      choice_(leader.choice_ + n),
      params_(params_beside(leader.params_, n)),
      tokens_(leader.tokens_.begin(), leader.tokens_.begin() + leader.n_prompt_),
      n_prompt_(leader.n_prompt_),
      n_ctx_slot_(leader.n_ctx_slot_),
      sampler_(model_->vocab(), params_),
      indent_(params_.n_indent),
      hold_(params_.stop),
      channel_(leader.channel_),
      control_(std::make_shared<generation_control>(leader.control_->opted_in(), leader.control_->owner(),
                                                    leader.control_->group)) {
    ++control_->group->n_open;
    show_params();
    end_if_due(nullptr);
}

generation::generation(const generation & first, int32_t choice, const further_prompt & prompt)
    : model_(first.model_),
      id_(first.id_),
      choice_(choice),
      params_(params_of_prompt(params_beside(first.params_, 0), prompt)),
      tokens_(prompt.tokens),
      n_prompt_(static_cast<int32_t>(tokens_.size())),
      n_ctx_slot_(first.n_ctx_slot_),
      sampler_(model_->vocab(), params_),
      indent_(params_.n_indent),
      hold_(params_.stop),
      channel_(first.channel_),
      control_(std::make_shared<generation_control>(first.control_->opted_in(), first.control_->owner(),
                                                    first.control_->group)) {
    ++control_->group->n_open;
    show_params();
    end_if_due(nullptr);
}

std::unique_ptr<generation> generation::take_follower() {
    std::unique_ptr<generation> next = std::move(followers_.front());
    followers_.erase(followers_.begin());
    return next;
}

std::vector<std::unique_ptr<generation>> generation::take_ended_followers() {
    const auto first = std::stable_partition(followers_.begin(), followers_.end(),
                                             [](const auto & follower) { return !follower->reason(); });
    std::vector<std::unique_ptr<generation>> ended(std::make_move_iterator(first),
                                                   std::make_move_iterator(followers_.end()));
    followers_.erase(first, followers_.end());
    return ended;
}

std::unique_ptr<generation> generation::hand_over(renderer & render) {
    if (followers_.empty()) {
        return nullptr;
    }
    std::unique_ptr<generation> next = take_follower();
    next->followers_ = std::move(followers_);
    next->n_overtaken = n_overtaken;
    next->id_slot_ = id_slot_;
    if (started_) {
        next->start_from(*this, render);
    }
    return next;
}

bool generation::rests() const {
    return paused() &&
           std::all_of(followers_.begin(), followers_.end(), [](const auto & each) { return each->paused(); });
}

// Callers' threads see them by the control, and build changes upon them.
void generation::show_params() {
    if (control_->opted_in()) {
        control_->params = std::make_shared<generation_params>(params_);
    }
}

void generation::start(renderer & render, int32_t n_cached) {
    if (started_) {
        return;
    }
    started_ = true;
    started_at_ = clock::now();
    timings_.n_cached = std::min(n_cached, n_prompt_);
    if (channel_->push_start()) {
        render.mark(channel_);
    }
    release(early_notes_, render);
    tell_progress(render);
}

void generation::note(control_note && note, renderer & render) {
    piece marked;
    marked.control = std::make_unique<control_note>(std::move(note));
    if (!started_) {
        early_notes_.push_back(std::move(marked));
        return;
    }
    std::vector<piece> pieces;
    hold_.add_note(std::move(marked), pieces);
    release(pieces, render);
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

void generation::flush(renderer & render) {
    std::vector<piece> pieces;
    hold_.flush(pieces);
    release(pieces, render);
}

void generation::start_from(const generation & leader, renderer & render) {
    started_ = true;
    started_at_ = leader.started_at_;
    timings_ = leader.timings_;
    release(early_notes_, render);
}

void generation::note_prefill(int32_t n, renderer & render) {
    timings_.n_prompt += n;
    tell_progress(render);
}

void generation::tell_progress(renderer & render) {
    if (!params_.return_progress || sampled_any_) {
        return;
    }
    prefill_progress progress;
    progress.n_total = n_prompt_;
    progress.n_cached = timings_.n_cached;
    // A parked prompt is decoded again: no more than all of it.
    progress.n_processed = std::min(timings_.n_cached + timings_.n_prompt, n_prompt_);
    progress.elapsed_ms = milliseconds(clock::now() - started_at_);
    if (channel_->push_progress(progress)) {
        render.mark(channel_);
    }
}

void generation::sample(const float * row) {
    if (params_.n_predict == 0) {
        return;  // only the prompt was wanted, in the cache
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

bool generation::limit_reached() {
    if (params_.n_predict >= 0 && n_generated() >= params_.n_predict) {
        return true;
    }
    if (static_cast<int32_t>(tokens_.size()) >= n_ctx_slot_) {
        truncated_ = true;
        return true;
    }
    return params_.t_max_predict_ms > 0 && sampled_any_ &&
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
        if (const std::string * stop = hold_.add(std::move(next), pieces)) {
            reason_ = finish_reason::stop;
            stop_string_ = *stop;
        } else if (ill_indented || limit_reached()) {
            reason_ = finish_reason::length;
            hold_.flush(pieces);
        }
    }
    release(pieces, render);
    if (!waiting_.empty() && !sampler_.reasoning().asked()) {
        refuse_end("the reasoning ended by itself");
    }
    if (sampler_.reasoning().wants_end()) {
        end_if_due(&render);
    }
    return !reason_;
}

void generation::release(std::vector<piece> & pieces, renderer & render) {
    bool was_clean = false;
    size_t n_notes = 0;
    for (auto & next : pieces) {
        n_notes += next.control ? 1 : 0;
        next.choice = choice_;
        was_clean = channel_->push(std::move(next)) || was_clean;
    }
    if (was_clean) {
        render.mark(channel_);
    }
    pieces.clear();
    if (n_notes > 0) {
        control_->settle(n_notes);
    }
}

void generation::finish(finish_reason reason, renderer & render) {
    reason_ = reason;
    refuse_end("the answer has ended");
    release(early_notes_, render);
    release(early_, render);
    flush(render);
    control_->close();
    generation_result ended = result();
    ended.reason = reason;
    ended.cut = cut_;
    ended.stop_string = std::move(stop_string_);
    ended.truncated = truncated_;
    if (channel_->push_finish(std::move(ended))) {
        render.mark(channel_);
    }
}

void generation::fail(error reason, renderer & render) {
    failure_ = reason;
    refuse_end("the completion has failed");
    control_->close();
    generation_result ended = result();
    ended.failure = std::move(reason);
    if (channel_->push_finish(std::move(ended))) {
        render.mark(channel_);
    }
}

void generation::fail_request(const error & reason, renderer & render) {
    if (channel_->push_failure(error(reason))) {
        render.mark(channel_);
    }
}

generation_result generation::result() const {
    generation_result result;
    result.choice = choice_;
    result.n_prompt_tokens = n_prompt_;
    result.n_reasoning_tokens = sampler_.reasoning().n_tokens();
    result.id_slot = id_slot_;
    result.timings = timings_;
    return result;
}

}  // namespace pyllama
