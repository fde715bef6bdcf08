// A byte ring with absolute offsets and event boundaries. Not thread-safe: its session holds the mutex.
//
// Offsets count from the first byte ever appended and never wrap. Storage grows to `capacity` and then the
// oldest events fall out whole, so a reader always starts at an event's first byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace pyllama {

class ring {
  public:
    // capacity in bytes; 0 = unbounded.
    explicit ring(size_t capacity);

    // Appends one event: O(size of the event), also when full. An event larger than the capacity is kept
    // alone, and the ring is then larger than its capacity until the next append. An empty event is none:
    // it takes no id. When memory runs out, throws std::bad_alloc and the event is not appended.
    void append(std::string_view event);

    uint64_t first_offset() const;  // of the oldest byte kept
    uint64_t end_offset() const;    // one past the newest byte
    uint64_t first_event() const;   // id of the oldest event kept; ids count from 0
    uint64_t end_event() const;     // one past the newest event

    // Copies whole events from `offset`, which must lie in [first_offset, end_offset], up to about max_bytes
    // (at least one event). An offset inside an event starts there, inside it.
    std::string read(uint64_t offset, size_t max_bytes) const;

    size_t memory() const;  // bytes allocated, bookkeeping included, for the byte budget

  private:
    size_t n_held() const { return static_cast<size_t>(end_ - first_); }
    void drop_for(size_t n_bytes);
    void reserve(size_t n_bytes);
    static void store(std::vector<char> & storage, uint64_t offset, std::string_view bytes);

    size_t capacity_;
    std::vector<char> storage_;  // the byte at `offset` lies at offset % size
    uint64_t first_ = 0;
    uint64_t end_ = 0;
    uint64_t first_event_ = 0;
    std::deque<uint64_t> event_ends_;  // of the events kept, oldest first
};

}  // namespace pyllama
