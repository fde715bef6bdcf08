#include "ring.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace pyllama {

namespace {

constexpr size_t n_block_min = 1024;
constexpr size_t n_block_most = 64 * 1024;

}  // namespace

ring_block::ring_block(size_t capacity, std::shared_ptr<byte_budget> budget)
    : data_(new char[capacity]),
      capacity_(capacity),
      n_charged_(sizeof(ring_block) + capacity),
      budget_(std::move(budget)) {
    ends.reserve(1);  // the first event's end is noted where nothing may throw
    if (budget_) {
        budget_->charge(memory_part::streams, n_charged_);
    }
}

ring_block::~ring_block() {
    if (budget_) {
        budget_->release(memory_part::streams, n_charged_);
    }
}

// For a block that gets no more events.
void ring_block::charge_index() {
    const size_t n_index = ends.capacity() * sizeof(uint64_t);
    n_charged_ += n_index;
    if (budget_) {
        budget_->charge(memory_part::streams, n_index);
    }
}

void ring_slice::copy_to(char * target) const {
    for (const part & each : parts_) {
        std::memcpy(target, each.data, each.n_bytes);
        target += each.n_bytes;
    }
}

std::string ring_slice::text() const {
    std::string bytes(n_bytes_, '\0');
    copy_to(bytes.data());
    return bytes;
}

ring::ring(size_t capacity, std::shared_ptr<byte_budget> budget)
    : capacity_(capacity),
      n_block_max_(capacity == 0 ? n_block_most : std::clamp(capacity / 8, n_block_min, n_block_most)),
      budget_(std::move(budget)) {}

void ring::append(std::string_view event) {
    if (!event.empty()) {
        publish(event.size(), prepare(event, wanted_block(event.size())));
    }
}

size_t ring::wanted_block(size_t n_bytes) const {
    if (blocks_.empty()) {
        return std::max(n_bytes, n_block_min);
    }
    const ring_block & last = *blocks_.back();
    if (last.capacity() - static_cast<size_t>(last.end - last.begin) >= n_bytes) {
        return 0;
    }
    return std::max(n_bytes, std::min(2 * last.capacity(), n_block_max_));
}

std::shared_ptr<ring_block> ring::prepare(std::string_view event, size_t block_size) const {
    std::shared_ptr<ring_block> fresh;
    if (block_size != 0) {
        fresh = std::make_shared<ring_block>(block_size, budget_);
        fresh->begin = fresh->end = end_;
        fresh->end_event = end_event_;
    }
    const ring_block & target = fresh ? *fresh : *blocks_.back();
    std::memcpy(target.data() + (target.end - target.begin), event.data(), event.size());
    return fresh;
}

void ring::publish(size_t n_bytes, std::shared_ptr<ring_block> fresh) {
    if (fresh) {
        blocks_.push_back(std::move(fresh));
        n_memory_ += blocks_.back()->memory();
        if (blocks_.size() > 1) {
            ring_block & sealed = **(blocks_.end() - 2);
            n_memory_ -= sealed.memory();
            sealed.charge_index();
            n_memory_ += sealed.memory();
        }
    }
    ring_block & last = *blocks_.back();
    last.ends.push_back(end_ + n_bytes);
    last.end = end_ += n_bytes;
    last.end_event = ++end_event_;
    while (capacity_ != 0 && end_ - first_ > capacity_ && first_event() + 1 < end_event_) {
        drop_oldest();
    }
}

void ring::drop_memory(size_t n_bytes) {
    const size_t n_before = n_memory_;
    while (!blocks_.empty() && n_before - n_memory_ < n_bytes) {
        pop_block();
    }
}

void ring::clear() {
    while (!blocks_.empty()) {
        pop_block();
    }
}

void ring::trim() {
    if (blocks_.empty()) {
        return;
    }
    const ring_block & last = *blocks_.back();
    const auto n_bytes = static_cast<size_t>(last.end - last.begin);
    if (last.capacity() - n_bytes < last.capacity() / 8) {
        return;
    }
    // Readers may hold the block: it stays as it is.
    auto trimmed = std::make_shared<ring_block>(n_bytes, budget_);
    std::memcpy(trimmed->data(), last.data(), n_bytes);
    trimmed->begin = last.begin;
    trimmed->end = last.end;
    trimmed->end_event = last.end_event;
    trimmed->ends = last.ends;
    trimmed->charge_index();
    n_memory_ += trimmed->memory();
    n_memory_ -= last.memory();
    blocks_.back() = std::move(trimmed);
}

uint64_t ring::first_event() const {
    return blocks_.empty() ? end_event_ : blocks_.front()->begin_event() + n_dropped_;
}

ring_slice ring::read(uint64_t offset, size_t max_bytes, bool with_events) const {
    ring_slice slice;
    slice.first_event = end_event_;
    if (offset < first_ || offset >= end_) {
        return slice;
    }
    const uint64_t limit = max_bytes < end_ - offset ? offset + max_bytes : end_;
    auto block = std::upper_bound(blocks_.begin(), blocks_.end(), offset,
                                  [](uint64_t value, const auto & each) { return value < each->end; });
    for (; block != blocks_.end(); ++block) {
        const ring_block & each = **block;
        const auto own = std::upper_bound(each.ends.begin(), each.ends.end(), offset);
        // The end of the event that holds `offset`, or the last one within the limit.
        auto stop = std::upper_bound(own, each.ends.end(), limit);
        if (slice.parts_.empty()) {
            slice.first_event = each.begin_event() + static_cast<uint64_t>(own - each.ends.begin());
            slice.starts_event = offset == (own == each.ends.begin() ? each.begin : *(own - 1));
            stop = std::max(stop, own + 1);
        }
        if (stop == own) {
            break;
        }
        const auto n_bytes = static_cast<size_t>(*(stop - 1) - offset);
        slice.parts_.push_back({*block, each.data() + (offset - each.begin), n_bytes});
        slice.n_bytes_ += n_bytes;
        offset += n_bytes;
        if (with_events) {
            slice.event_ends.insert(slice.event_ends.end(), own, stop);
        }
        if (stop != each.ends.end()) {
            break;
        }
    }
    return slice;
}

uint64_t ring::offset_of(uint64_t id) const {
    if (id == end_event_) {
        return end_;
    }
    const auto block = std::upper_bound(blocks_.begin(), blocks_.end(), id,
                                        [](uint64_t value, const auto & each) { return value < each->end_event; });
    const auto index = static_cast<size_t>(id - (*block)->begin_event());
    return index == 0 ? (*block)->begin : (*block)->ends[index - 1];
}

void ring::drop_oldest() {
    const ring_block & oldest = *blocks_.front();
    first_ = oldest.ends[n_dropped_++];
    if (n_dropped_ == oldest.ends.size()) {
        pop_block();
    }
}

void ring::pop_block() {
    first_ = blocks_.front()->end;
    n_dropped_ = 0;
    n_memory_ -= blocks_.front()->memory();
    blocks_.pop_front();
}

}  // namespace pyllama
