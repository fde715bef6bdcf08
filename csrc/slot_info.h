// What /slots and tests see of a slot.
#pragma once

#include <cstdint>
#include <string>

#include "slot.h"

namespace pyllama {

struct slot_info {
    int32_t id = 0;
    bool busy = false;
    std::string state;
    std::string request_id;
    int32_t choice = 0;
    int32_t n_ctx = 0;
    int32_t n_prompt = 0;
    int32_t n_prompt_cached = 0;
    int32_t n_prompt_processed = 0;
    int32_t n_decoded = 0;
    int32_t n_remain = -1;  // tokens it may still generate; -1 = no limit
    int32_t n_cached = 0;   // tokens the slot's sequence holds
    int32_t n_shared = 0;   // of them, those whose cells other sequences hold too
    taken_prefix taken;     // by its last generation
    std::string params;     // JSON object of the running request's sampling parameters
};

// n_ctx: tokens that prompt and answer may have together. Engine thread.
slot_info describe(const slot & target, int32_t n_ctx);

}  // namespace pyllama
