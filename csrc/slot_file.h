// A saved slot as a file, in the format of llama-server, which reads and writes the same:
//
//   "ggsq" | version 4 | n_words, u32 each | n_words words of tokens, packed | llama.cpp's state |
//   ours: what proves that the rest is whole and fits this model |
//   "SCKP" | version 1 | n, u32 each | n checkpoints
//
// Tokens that stand for media (media_token.h) are among the words as they are, and behind the tokens is where each
// chunk begins; a llama-server finds no chunk there that it knows, and refuses the file.
//
// llama.cpp trusts what it restores. So a state reaches it only with our proof in front of the checkpoints, or, from a
// llama-server, when every cell of it was looked at. It finds damage; it is no protection against forgery.
// Pure, any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model.h"
#include "saved_sequence.h"

namespace pyllama {

// What a state depends on besides its tokens and adapters: the model and the flags that change what it computes.
uint64_t state_identity(const model & source);

struct slot_file_parts {
    std::vector<uint8_t> head;  // in front of the state
    std::vector<uint8_t> tail;  // behind it
};

// state_head bytes of llama_state_seq_get_data's are not in the file: a mark, and the sequence's id.
constexpr size_t state_head = 8;

// The file of a sequence is head, its state without the state_head, tail.
slot_file_parts pack_slot_file(const saved_sequence & saved, uint64_t identity);

struct slot_file_contents {
    llama_tokens tokens;
    lora_set lora;  // null when the file does not say
    int32_t n_exact = slot::all_exact;
    size_t state_begin = 0;
    size_t state_size = 0;  // of a foreign file: as far as its cells go
    std::vector<checkpoint> checkpoints;
    size_t n_read = 0;  // bytes of the file that were understood
};

struct slot_file_limits {
    uint64_t identity = 0;
    int32_t n_ctx = 0;  // tokens of a slot
    int32_t n_vocab = 0;
    size_t n_adapters = 0;
    size_t n_checkpoints = 0;      // most that are kept
    bool plain_attention = false;  // entries for every token, in one cache, without extensions
    bool media = false;            // the model reads images
};

// Throws error(invalid_request) that says what is wrong with the file.
slot_file_contents parse_slot_file(const std::vector<uint8_t> & file, const slot_file_limits & limits);

}  // namespace pyllama
