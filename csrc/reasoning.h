// Follows a generation through its reasoning blocks, by token sequences:
//
//   outside --a start sequence is complete--> inside --an end sequence is complete--> outside
//
// It gates lazy grammars (a tool call thought about inside the block must not trigger one) and counts
// reasoning tokens. Engine thread; one per request.
#pragma once

#include <cstdint>
#include <vector>

#include "common.h"

namespace pyllama {

// Finds any of several token sequences in a token stream, one token at a time.
class sequence_matcher {
  public:
    explicit sequence_matcher(std::vector<llama_tokens> sequences);

    // The sequence that `token` completes, or null.
    const llama_tokens * advance(llama_token token);
    void reset() { recent_.clear(); }
    bool empty() const { return sequences_.empty(); }

  private:
    std::vector<llama_tokens> sequences_;
    size_t longest_ = 0;
    llama_tokens recent_;  // the last longest_ tokens
};

class reasoning_tracker {
  public:
    reasoning_tracker(std::vector<llama_tokens> start, std::vector<llama_tokens> end, bool open);

    // A token of the answer. Returns the end sequence that it completes, or null.
    const llama_tokens * advance(llama_token token);

    bool inside() const { return inside_; }
    bool has_tags() const { return !end_.empty(); }
    int32_t n_tokens() const { return n_tokens_; }  // inside blocks, tags not counted

  private:
    sequence_matcher start_;
    sequence_matcher end_;
    bool inside_;
    int32_t n_tokens_ = 0;
};

}  // namespace pyllama
