// Which tokens the sequences of the KV cache hold, and which cells they have in common: a radix tree with one node for
// each run of cells that the same sequences hold. A sequence's tokens are the path from the root to its end.
//
//   "<system>..." held by 0,1,2 --+-- "What is"  held by 0,1 --+-- " 2 + 2?" held by 0
//                                 |                            +-- " a cat?" held by 1
//                                 +-- "Hello"    held by 2
//
// The tree knows of cells, not only of tokens: what two sequences computed each for itself are two paths with the same
// tokens, what one took from the other is one. So it answers both which sequence begins like a prompt, and how many
// cells any set of sequences needs together. Whether a sequence may be taken from (its LoRA set, what a shift moved) is
// for the caller to say. Engine thread only.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "llama.h"

namespace pyllama {

class prefix_cache {
  public:
    static constexpr size_t max_sequences = 256;  // of llama.cpp
    using sequences = std::bitset<max_sequences>;

    struct match {
        llama_seq_id sequence = -1;
        int32_t n = 0;
    };

    prefix_cache();
    ~prefix_cache();
    prefix_cache(const prefix_cache &) = delete;
    prefix_cache & operator=(const prefix_cache &) = delete;

    // The sequence got n tokens in cells of its own.
    void append(llama_seq_id sequence, const llama_token * tokens, size_t n);
    // It holds its first n tokens from now on. A larger n changes nothing.
    void keep(llama_seq_id sequence, size_t n);
    // `to`, which must be empty, holds the cells of `from`'s first n tokens too.
    void share(llama_seq_id from, llama_seq_id to, size_t n);

    // The sequence that gives the longest prefix of `tokens`. usable(sequence): how many of its first tokens may be
    // taken; 0 = none. n is 0 when there is none.
    match find(const std::vector<llama_token> & tokens, const std::function<int32_t(llama_seq_id)> & usable) const;

    // Cells that the sequences hold together, each counted once.
    size_t n_cells(const sequences & of) const;
    // Leading cells of a sequence that at least one of the others holds too.
    size_t n_held(llama_seq_id sequence, const sequences & others) const;
    // Cells of a sequence that none of the others holds.
    size_t n_own(llama_seq_id sequence, const sequences & others) const {
        return size(sequence) - n_held(sequence, others);
    }
    size_t size(llama_seq_id sequence) const;

    // Nodes below the root: at most twice the number of sequences.
    size_t n_nodes() const;

  private:
    struct node;
    struct search;

    void split(node & at, size_t position);
    void absorb_only_child(node & at);

    std::unique_ptr<node> root_;
    std::vector<node *> ends_;  // of each sequence, where its tokens end
};

}  // namespace pyllama
