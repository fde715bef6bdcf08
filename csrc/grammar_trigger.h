// Holds an answer's tokens back from a lazy grammar until one of its trigger words is there. llama.cpp's grammar keeps
// all text that it was told and searches the whole of it by regular expressions at each token; given only the tokens in
// which the word stands, it finds the same word. One per request, used where the grammar is.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common.h"

namespace pyllama {

class grammar_trigger {
  public:
    // Holds nothing back for a grammar that is not lazy, or whose triggers are other expressions than words.
    explicit grammar_trigger(const common_params_sampling & sampling);

    // A token of the answer and its text. Returns the tokens that the grammar is to be told now, in their order; valid
    // until the next call.
    const llama_tokens & advance(llama_token token, std::string_view text);

  private:
    bool completes_word(std::string_view text);

    bool waits_ = false;
    std::vector<std::string> words_;
    size_t longest_ = 0;
    llama_tokens tokens_;  // that trigger it whatever their text is
    std::string tail_;     // text in which a word may have begun
    llama_tokens tail_tokens_;
    std::vector<size_t> tail_bytes_;  // of each
    llama_tokens told_;
};

}  // namespace pyllama
