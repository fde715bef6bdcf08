// Bytes that never change, for whoever holds a copy of the handle: they lie in memory once, and are charged once.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "byte_budget.h"

namespace pyllama {

class shared_bytes {
  public:
    shared_bytes() = default;
    explicit shared_bytes(std::vector<uint8_t> bytes) : held_(std::make_shared<held>(held{std::move(bytes), {}})) {}

    const uint8_t * data() const { return held_ ? held_->bytes.data() : nullptr; }
    size_t size() const { return held_ ? held_->bytes.size() : 0; }
    bool empty() const { return size() == 0; }

    // Charges them for as long as anybody holds them. For the first holder, before there is another.
    void charge(std::shared_ptr<byte_budget> budget, memory_part part) {
        if (held_) {
            held_->share = budget_share(std::move(budget), part, size());
        }
    }

  private:
    struct held {
        std::vector<uint8_t> bytes;
        budget_share share;
    };
    std::shared_ptr<held> held_;
};

}  // namespace pyllama
