// Checkpoints of one sequence: the part of its memory that cannot be rolled back (a sliding window, a recurrent state)
// as it was after some of its tokens. Where a memory has such a part, a prompt that parts from what is cached can go
// on from the last checkpoint before that. Engine thread, but for the plain values.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "llama.h"
#include "shared_bytes.h"

namespace pyllama {

struct checkpoint {
    int32_t n_tokens = 0;   // of the sequence, when it was made
    llama_pos pos_min = 0;  // what the memory said then
    llama_pos pos_max = 0;
    shared_bytes data;  // llama.cpp's bytes
};

// Which memory has a state instead of entries for each token, in some layers or all.
bool has_states(const llama_context * ctx);

// Entries for every token, in one cache, at one position each: nothing in a saved state but those.
bool has_plain_attention(const llama_context * ctx);

// Whether there is anything that could not be rolled back.
bool needs_checkpoints(const llama_context * ctx, bool swa_full);

// Bytes that one of the sequence would take.
size_t checkpoint_size(llama_context * ctx, llama_seq_id sequence);

// Adds one of the sequence as it is, which holds n tokens; the oldest goes when there are more than `most`. Nothing
// is added when the memory cannot be saved. budget: charged for it.
void add_checkpoint(llama_context * ctx, llama_seq_id sequence, int32_t n, size_t most,
                    const std::shared_ptr<byte_budget> & budget, std::vector<checkpoint> & checkpoints);

// False when it does not fit the memory. What is left then is to be cleared.
bool load_checkpoint(llama_context * ctx, llama_seq_id sequence, const checkpoint & saved);

void drop_checkpoints_after(std::vector<checkpoint> & checkpoints, int32_t n);

size_t n_bytes(const std::vector<checkpoint> & checkpoints);

}  // namespace pyllama
