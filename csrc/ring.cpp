#include "ring.h"

#include <algorithm>
#include <cstring>

namespace pyllama {

namespace {

constexpr size_t n_storage_min = 1024;

}  // namespace

ring::ring(size_t capacity) : capacity_(capacity) {}

void ring::append(std::string_view event) {
    if (event.empty()) {
        return;
    }
    if (capacity_ != 0) {
        drop_for(event.size());
    }
    reserve(n_held() + event.size());
    event_ends_.push_back(end_ + event.size());
    store(storage_, end_, event);
    end_ += event.size();
}

uint64_t ring::first_offset() const {
    return first_;
}

uint64_t ring::end_offset() const {
    return end_;
}

uint64_t ring::first_event() const {
    return first_event_;
}

uint64_t ring::end_event() const {
    return first_event_ + event_ends_.size();
}

std::string ring::read(uint64_t offset, size_t max_bytes) const {
    if (offset < first_ || offset >= end_) {
        return {};
    }
    // The end of the event that holds `offset`, or the last one within max_bytes.
    const auto own = std::upper_bound(event_ends_.begin(), event_ends_.end(), offset);
    const uint64_t limit = max_bytes < end_ - offset ? offset + max_bytes : end_;
    const auto beyond = std::upper_bound(own, event_ends_.end(), limit);
    const uint64_t stop = beyond == own ? *own : *(beyond - 1);

    const size_t n_bytes = static_cast<size_t>(stop - offset);
    const size_t position = static_cast<size_t>(offset % storage_.size());
    const size_t n_straight = std::min(n_bytes, storage_.size() - position);
    std::string bytes;
    bytes.reserve(n_bytes);
    bytes.append(storage_.data() + position, n_straight);
    bytes.append(storage_.data(), n_bytes - n_straight);
    return bytes;
}

size_t ring::memory() const {
    return storage_.capacity() + event_ends_.size() * sizeof(uint64_t);
}

// Lets the oldest events fall out until n_bytes more fit, or none is left.
void ring::drop_for(size_t n_bytes) {
    while (!event_ends_.empty() && (n_bytes > capacity_ || n_held() > capacity_ - n_bytes)) {
        first_ = event_ends_.front();
        event_ends_.pop_front();
        first_event_++;
    }
}

// Makes the storage hold n_bytes: it doubles until it has reached the capacity, so that the copies of a
// growing ring add up to a constant per byte, and a full one copies nothing.
void ring::reserve(size_t n_bytes) {
    const bool too_large = capacity_ != 0 && storage_.size() > std::max(capacity_, n_bytes);
    if (storage_.size() >= n_bytes && !too_large) {
        return;
    }
    if (n_held() == 0) {
        // Nothing to carry over. A storage that held an event beyond the capacity shrinks back here.
        std::vector<char>().swap(storage_);
    }
    size_t n_storage = std::max({n_bytes, 2 * storage_.size(), n_storage_min});
    if (capacity_ != 0) {
        n_storage = std::max(n_bytes, std::min(n_storage, capacity_));
    }
    std::vector<char> larger(n_storage);
    if (n_held() != 0) {
        const size_t position = static_cast<size_t>(first_ % storage_.size());
        const size_t n_straight = std::min(n_held(), storage_.size() - position);
        store(larger, first_, {storage_.data() + position, n_straight});
        store(larger, first_ + n_straight, {storage_.data(), n_held() - n_straight});
    }
    storage_.swap(larger);
}

void ring::store(std::vector<char> & storage, uint64_t offset, std::string_view bytes) {
    const size_t position = static_cast<size_t>(offset % storage.size());
    const size_t n_straight = std::min(bytes.size(), storage.size() - position);
    if (n_straight != 0) {
        std::memcpy(storage.data() + position, bytes.data(), n_straight);
    }
    if (n_straight != bytes.size()) {
        std::memcpy(storage.data(), bytes.data() + n_straight, bytes.size() - n_straight);
    }
}

}  // namespace pyllama
