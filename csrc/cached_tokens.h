// The tokens whose KV entries one sequence holds, in order of position: a list to read, and the sequence's path in the
// prefix cache, which change together. Engine thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "prefix_cache.h"

namespace pyllama {

class cached_tokens {
  public:
    // Enters the sequence, which holds nothing yet, into an index. A list without one is a list and nothing else.
    void join(prefix_cache & index, llama_seq_id sequence) {
        index_ = &index;
        sequence_ = sequence;
    }

    const std::vector<llama_token> & list() const { return tokens_; }
    size_t size() const { return tokens_.size(); }
    bool empty() const { return tokens_.empty(); }

    // Tokens in cells of the sequence's own.
    template <typename Iterator>
    void append(Iterator first, Iterator last) {
        const size_t n_before = tokens_.size();
        tokens_.insert(tokens_.end(), first, last);
        if (index_ != nullptr) {
            index_->append(sequence_, tokens_.data() + n_before, tokens_.size() - n_before);
        }
    }

    template <typename Iterator>
    void assign(Iterator first, Iterator last) {
        keep(0);
        append(first, last);
    }

    void keep(size_t n) {
        if (n < tokens_.size()) {
            tokens_.resize(n);
            if (index_ != nullptr) {
                index_->keep(sequence_, n);
            }
        }
    }

    // How many of the first cells another sequence holds too.
    size_t n_shared() const {
        return index_ == nullptr ? 0 : index_->n_held(sequence_, prefix_cache::sequences().set());
    }

    // The same cells as another sequence's first n; this one must be empty.
    void share(const cached_tokens & from, size_t n) {
        tokens_.assign(from.tokens_.begin(), from.tokens_.begin() + static_cast<std::ptrdiff_t>(n));
        if (index_ != nullptr) {
            index_->share(from.sequence_, sequence_, n);
        }
    }

  private:
    std::vector<llama_token> tokens_;
    prefix_cache * index_ = nullptr;
    llama_seq_id sequence_ = 0;
};

}  // namespace pyllama
