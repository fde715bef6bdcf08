// A request's further answers: made beside the first, carried by a leader until the prompt is decoded.

#include <algorithm>
#include <iterator>

#include "generation.h"

namespace pyllama {

namespace {

generation_params params_beside(generation_params params, int32_t n) {
    params.seed_offset = static_cast<uint32_t>(n);
    params.sampling.seed += params.seed_offset;
    params.return_progress = false;  // the leader tells it
    return params;
}

generation_params params_of_prompt(generation_params params, const further_prompt & prompt) {
    params.reasoning.open = prompt.reasoning_open;
    params.labels = prompt.labels;
    return params;
}

}  // namespace

generation::generation(const generation & leader, int32_t n)
    : model_(leader.model_),
      id_(leader.id_),
      choice_(leader.choice_ + n),
      params_(params_beside(leader.params_, n)),
      tokens_(leader.tokens_.begin(), leader.tokens_.begin() + leader.n_prompt_),
      media_(leader.media_),
      n_prompt_(leader.n_prompt_),
      n_ctx_slot_(leader.n_ctx_slot_),
      shifts_(leader.shifts_),
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
      media_(prompt.media),
      n_prompt_(static_cast<int32_t>(tokens_.size())),
      n_ctx_slot_(first.n_ctx_slot_),
      shifts_(first.shifts_),
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

void generation::start_from(const generation & leader, renderer & render) {
    started_ = true;
    started_at_ = leader.started_at_;
    timings_ = leader.timings_;
    release(early_notes_, render);
}

}  // namespace pyllama
