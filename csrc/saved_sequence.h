// A slot's sequence as bytes: what the KV cache holds of it, and the tokens it was made of. Engine thread, but for the
// plain values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint.h"
#include "common.h"
#include "lora.h"
#include "slot.h"

namespace pyllama {

struct saved_sequence {
    llama_tokens tokens;
    lora_set lora;
    std::string domain;
    int32_t n_exact = slot::all_exact;
    std::vector<uint8_t> state;  // as llama_state_seq_get_data gives it
    std::vector<checkpoint> checkpoints;

    size_t n_bytes() const { return state.size() + pyllama::n_bytes(checkpoints) + tokens.size() * sizeof(tokens[0]); }
};

// Bytes that saving the slot's sequence would take.
size_t saved_size(llama_context * ctx, const slot & slot);

// The slot must be idle and settled. Throws std::bad_alloc, and error(engine) when llama.cpp does not give its state.
saved_sequence save_sequence(llama_context * ctx, const slot & slot);

// Makes the sequence of an idle slot the saved one. False, with the slot empty, when the memory does not take it: it
// has no room, or the state is not what it says.
bool load_sequence(llama_context * ctx, const saved_sequence & saved, slot & slot);

}  // namespace pyllama
