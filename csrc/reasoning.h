// Follows a generation through its reasoning blocks, by token sequences, and by their text where it is given:
//
//   outside --a start sequence is complete--> inside --an end sequence is complete--> outside
//
// It gates lazy grammars (a tool call thought about inside the block must not trigger one) and counts
// reasoning tokens. Engine thread; one per request.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common.h"

namespace pyllama {

// Finds any of several token sequences in a token stream, one token at a time.
class sequence_matcher {
  public:
    explicit sequence_matcher(std::vector<llama_tokens> sequences);

    // Also finds these texts, however tokens are cut: a tag may share its tokens with what stands around it.
    void read_text(std::vector<std::string> texts);

    // The sequence that `token` completes, or null. `text` is the token's, where texts are read; what is returned for
    // one of those, valid until the next call, are the tokens that hold it.
    const llama_tokens * advance(llama_token token, std::string_view text = {});
    void reset();
    bool empty() const { return sequences_.empty(); }

  private:
    struct held_token {
        llama_token token;
        size_t n_bytes;
    };

    const llama_tokens * advance_text(llama_token token, std::string_view text);

    std::vector<llama_tokens> sequences_;
    size_t longest_ = 0;
    llama_tokens recent_;  // the last longest_ tokens
    std::vector<std::string> texts_;
    size_t longest_text_ = 0;
    std::string tail_;                     // text in which one may have begun
    std::vector<held_token> tail_tokens_;  // its tokens
    llama_tokens matched_;
};

class reasoning_tracker {
  public:
    reasoning_tracker(std::vector<llama_tokens> start, std::vector<llama_tokens> end, bool open);

    // As sequence_matcher::read_text, for the start and the end of a block.
    void read_text(std::vector<std::string> start, std::vector<std::string> end);

    // A token of the answer. Returns the end sequence that it completes, or null.
    const llama_tokens * advance(llama_token token, std::string_view text = {});

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
