// A byte ring with absolute offsets and event boundaries. Offsets and event ids count from 0, from the first byte and
// event ever appended, and never wrap. The oldest events fall out whole, so a reader starts at an event's first byte.
//
// The bytes lie in blocks, which double in size up to a limit. What was written into a block never changes, and
// whoever holds a block keeps its bytes: a reader takes references under the session's mutex and copies without it.
//
// Not thread-safe: the session holds its mutex, except around prepare(), which the one producer calls without it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "byte_budget.h"

namespace pyllama {

// Storage of consecutive events, charged to the budget for as long as anybody holds it.
class ring_block {
  public:
    // budget: may be null. Throws std::bad_alloc.
    ring_block(size_t capacity, std::shared_ptr<byte_budget> budget);
    ~ring_block();
    ring_block(const ring_block &) = delete;
    ring_block & operator=(const ring_block &) = delete;

    char * data() const { return data_.get(); }
    size_t capacity() const { return capacity_; }
    uint64_t begin_event() const { return end_event - ends.size(); }
    size_t memory() const { return n_charged_; }  // with its index
    void charge_index();

    // The ring's, under the session's mutex.
    uint64_t begin = 0;          // offset of the first byte
    uint64_t end = 0;            // one past the last byte
    uint64_t end_event = 0;      // one past the last event's id
    std::vector<uint64_t> ends;  // offsets of the events' ends

  private:
    std::unique_ptr<char[]> data_;
    size_t capacity_;
    size_t n_charged_;
    std::shared_ptr<byte_budget> budget_;
};

// Consecutive bytes of a ring. They stay readable, whatever happens to the ring, and cost memory until it is destroyed.
class ring_slice {
  public:
    size_t n_bytes() const { return n_bytes_; }
    void copy_to(char * target) const;
    std::string text() const;

    // Of the events in the slice. The first one may have begun before it.
    uint64_t first_event = 0;
    bool starts_event = true;
    std::vector<uint64_t> event_ends;  // only if asked for

  private:
    friend class ring;
    struct part {
        std::shared_ptr<const ring_block> block;
        const char * data;
        size_t n_bytes;
    };
    std::vector<part> parts_;
    size_t n_bytes_ = 0;
};

class ring {
  public:
    // capacity in bytes; 0 = unbounded. budget: charged for all memory; may be null.
    explicit ring(size_t capacity, std::shared_ptr<byte_budget> budget = nullptr);

    // Appends one event: O(size of the event), also when full. An event larger than the capacity is kept
    // alone, and the ring is then larger than its capacity until the next append. An empty event is none:
    // it takes no id. When memory runs out, throws std::bad_alloc and the event is not appended.
    void append(std::string_view event);

    // The same in two steps. What prepare() did is seen by nobody before publish(), which comes next and copies no
    // byte of the event. block_size: as wanted_block() says, or less where memory is scarce.
    size_t wanted_block(size_t n_bytes) const;  // 0: the event fits into the last block
    std::shared_ptr<ring_block> prepare(std::string_view event, size_t block_size) const;
    void publish(size_t n_bytes, std::shared_ptr<ring_block> fresh);

    // Lets the oldest events fall out until at least n_bytes of memory are given back, or nothing is left.
    void drop_memory(size_t n_bytes);
    void clear();  // lets all of them fall out

    // Gives back what the last block does not need. Nothing may be appended any more.
    void trim();

    uint64_t first_offset() const { return first_; }  // of the oldest byte kept
    uint64_t end_offset() const { return end_; }      // one past the newest byte
    uint64_t first_event() const;                     // id of the oldest event kept
    uint64_t end_event() const { return end_event_; }

    // Whole events from `offset`, which must lie in [first_offset, end_offset], up to about max_bytes (at least one
    // event). An offset inside an event starts there, inside it. O(blocks), and O(events) with their ends.
    ring_slice read(uint64_t offset, size_t max_bytes, bool with_events = false) const;

    // Where event `id`, in [first_event, end_event], begins.
    uint64_t offset_of(uint64_t id) const;

    size_t memory() const { return n_memory_; }  // bytes allocated, bookkeeping included

  private:
    void drop_oldest();
    void pop_block();

    size_t capacity_;
    size_t n_block_max_;
    std::shared_ptr<byte_budget> budget_;
    std::deque<std::shared_ptr<ring_block>> blocks_;
    uint64_t first_ = 0;
    uint64_t end_ = 0;
    uint64_t end_event_ = 0;
    size_t n_dropped_ = 0;  // events of the first block that fell out
    size_t n_memory_ = 0;
};

}  // namespace pyllama
