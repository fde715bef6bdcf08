#include "control.h"

#include <utility>

namespace pyllama {

namespace {

control_result refused(const char * message) {
    control_result result;
    result.brief = true;
    result.message = message;
    return result;
}

}  // namespace

control_result not_active() {
    control_result result = refused("no active completion for this id");
    result.state = request_state::finished;
    return result;
}

control_result not_enabled() {
    return refused("reasoning control not enabled for this completion");
}

control_ticket::control_ticket(control_action action, size_t n_parts)
    : action_(action), results_(n_parts), n_missing_(n_parts) {}

void control_ticket::complete(size_t part, control_result result) {
    std::shared_ptr<waker> asleep;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        results_[part] = std::move(result);
        if (--n_missing_ == 0 && target_ && target_->add(key_)) {
            asleep = target_;
        }
    }
    if (asleep) {
        asleep->signal();
    }
}

void control_ticket::subscribe(std::shared_ptr<waker> target, uint64_t key) {
    const std::lock_guard<std::mutex> lock(mutex_);
    target_ = std::move(target);
    key_ = key;
    if (n_missing_ == 0 && target_) {
        target_->mark(key_);
    }
}

std::optional<std::vector<control_result>> control_ticket::results() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (n_missing_ > 0) {
        return std::nullopt;
    }
    return results_;
}

generation_control::generation_control(bool opted_in, std::string owner, std::shared_ptr<choice_group> of)
    : group(std::move(of)), opted_in_(opted_in), owner_(std::move(owner)) {}

generation_control::~generation_control() {
    close();
}

bool generation_control::post(posted_control && control) {
    control_result answer;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (closed_) {
            answer = not_active();
        } else if (!opted_in_) {
            answer = not_enabled();
        } else if (n_outstanding_ >= n_outstanding_max) {
            answer = refused("too many controls of this completion are waiting");
            answer.busy = true;
        } else {
            posted_.push_back(std::move(control));
            ++n_outstanding_;
            waiting_.store(true, std::memory_order_release);
            return true;
        }
    }
    control.ticket->complete(control.part, std::move(answer));
    return false;
}

std::vector<posted_control> generation_control::take() {
    std::vector<posted_control> taken;
    const std::lock_guard<std::mutex> lock(mutex_);
    waiting_.store(false, std::memory_order_relaxed);
    taken.swap(posted_);
    return taken;
}

void generation_control::add_note() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++n_outstanding_;
}

void generation_control::settle(size_t n) {
    const std::lock_guard<std::mutex> lock(mutex_);
    n_outstanding_ -= n;
}

void generation_control::close() {
    std::vector<posted_control> left;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        closed_ = true;
        left.swap(posted_);
    }
    for (const posted_control & control : left) {
        control.ticket->complete(control.part, not_active());
    }
}

}  // namespace pyllama
