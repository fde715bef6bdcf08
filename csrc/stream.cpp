#include "stream.h"

#include <algorithm>
#include <new>
#include <utility>

namespace pyllama {

namespace {

// What a live session may hold although the budget is used up: its readers are at its end, and need a moment.
constexpr size_t n_guaranteed = 64 * 1024;

}  // namespace

stream_session::stream_session(stream_limits limits)
    : budget_(limits.budget), ring_(limits.capacity, std::move(limits.budget)) {}

stream_session::~stream_session() {
    if (budget_) {
        if (const uint64_t ticket = ticket_) {
            budget_->forget(ticket);
        }
        budget_->release(memory_part::streams, n_extra_);
    }
}

session_state stream_session::state() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return state_;
}

std::optional<error> stream_session::failure() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return failure_;
}

read_result stream_session::read(uint64_t offset, size_t max_bytes, bool with_events) const {
    read_result result;
    const std::lock_guard<std::mutex> lock(mutex_);
    result.first_offset = ring_.first_offset();
    result.end_offset = ring_.end_offset();
    if (offset < result.first_offset) {
        result.lost = true;
        result.next_offset = result.first_offset;
    } else {
        result.slice = ring_.read(offset, max_bytes, with_events);
        result.next_offset = offset + result.slice.n_bytes();
    }
    result.finished = state_ == session_state::finished && result.next_offset >= result.end_offset;
    return result;
}

uint64_t stream_session::end_offset() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return ring_.end_offset();
}

std::optional<uint64_t> stream_session::offset_after(uint64_t id) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (id >= ring_.end_event()) {
        return std::nullopt;
    }
    if (id + 1 < ring_.first_event()) {
        return 0;  // there is a first event, so its first byte is gone
    }
    return ring_.offset_of(id + 1);
}

void stream_session::keep(size_t n_extra) {
    bool ended;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (kept_) {
            return;
        }
        kept_ = true;
        n_extra_ = budget_ ? n_extra : 0;
        ended = state_ == session_state::finished;
    }
    if (budget_) {
        budget_->charge(memory_part::streams, n_extra_);
    }
    if (ended) {
        offer();
    }
}

bool stream_session::evicted() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return evicted_;
}

void stream_session::subscribe(std::shared_ptr<waker> target, uint64_t key) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!target) {
        subscribers_.erase(std::remove_if(subscribers_.begin(), subscribers_.end(),
                                          [&](const subscriber & s) { return s.key == key; }),
                           subscribers_.end());
        return;
    }
    const bool known = std::any_of(subscribers_.begin(), subscribers_.end(),
                                   [&](const subscriber & s) { return s.target == target && s.key == key; });
    if (!known) {
        subscribers_.push_back({target, key});
    }
    if (state_ != session_state::accepted || ring_.end_offset() != 0) {
        target->mark(key);
    }
}

void stream_session::unsubscribe(const waker * target, uint64_t key) {
    const std::lock_guard<std::mutex> lock(mutex_);
    subscribers_.erase(std::remove_if(subscribers_.begin(), subscribers_.end(),
                                      [&](const subscriber & s) { return s.target.get() == target && s.key == key; }),
                       subscribers_.end());
}

void stream_session::start() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (state_ == session_state::accepted) {
        state_ = session_state::started;
    }
}

// Only the producer changes the ring of a live session, so it may look at it without the mutex.
void stream_session::append(std::string_view event) {
    if (event.empty() || state_ == session_state::finished) {
        return;
    }
    size_t block_size = ring_.wanted_block(event.size());
    if (block_size != 0 && budget_) {
        block_size = allowed_block(block_size, event.size());
    }
    std::shared_ptr<ring_block> fresh = ring_.prepare(event, block_size);
    const std::lock_guard<std::mutex> lock(mutex_);
    ring_.publish(event.size(), std::move(fresh));
}

void stream_session::finish(std::optional<error> failure) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (state_ == session_state::finished) {
            return;
        }
        if (kept_) {
            try {
                ring_.trim();
            } catch (const std::bad_alloc &) {
                // It stays as large as it is.
            }
        }
        state_ = session_state::finished;
        failure_ = std::move(failure);
        if (!kept_) {
            return;  // keep() may come yet
        }
    }
    offer();
}

void stream_session::wake() {
    std::shared_ptr<waker> asleep;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        for (const subscriber & s : subscribers_) {
            if (s.target->add(s.key)) {
                // Few streams have readers on several loops. Nothing here may fail: a key without its signal would
                // keep all later ones of that loop from being signalled.
                if (asleep) {
                    asleep->signal();
                }
                asleep = s.target;
            }
        }
    }
    if (asleep) {
        asleep->signal();
    }
}

void stream_session::evict() noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    ring_.clear();
    evicted_ = true;
}

// Producer. What the next block may take, with the oldest events dropped where the budget does not allow more.
size_t stream_session::allowed_block(size_t wanted, size_t n_event) {
    if (budget_->make_stream_room(wanted) || !kept_) {
        return wanted;
    }
    const size_t n_held = ring_.memory();
    if (n_held + wanted <= n_guaranteed) {
        return wanted;
    }
    const size_t allowed = std::max(n_event, std::min(wanted, n_guaranteed / 8));
    if (n_held + allowed > n_guaranteed) {
        const std::lock_guard<std::mutex> lock(mutex_);
        ring_.drop_memory(allowed);
    }
    return allowed;
}

// The session has ended and is kept: the budget may evict it.
void stream_session::offer() noexcept {
    if (!budget_) {
        return;
    }
    try {
        ticket_ = budget_->offer(*this);
    } catch (const std::bad_alloc &) {
        // It stays until its keeper lets it go.
    }
}

}  // namespace pyllama
