// A chain of llama.cpp's samplers for the bindings' SamplerChain, with everything checked that would make llama.cpp
// abort, sort values that have no order, or run out of stack. One thread at a time, any thread.
//
// A custom sampler is a gap in the chain: apply() stops in front of it, so that no call leads from here to Python.
// Its owner changes candidates() and goes on behind it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "llama-cpp.h"

namespace pyllama {

enum class sampler_kind {
    plain,          // removes candidates or sets logits to -inf
    changes,        // calculates with logits, so that they can become NaN or infinite
    top_k,          // with k > 0: in front of a chain it reads the row itself
    greedy,         // the same for the largest logit
    selects,        // every other sampler that selects the token
    pairs,          // compares all pairs of candidates
    adaptive,       // adaptive-p, which selects, too
    grammar,        // has to be asked before it accepts a token
    lazy_patterns,  // a grammar that searches the text so far for patterns, until one is found
    custom,
};

struct chain_limits {
    static constexpr size_t n_pairs = 4096;  // candidates that a sampler of kind `pairs` may see
};

class checked_chain {
  public:
    using candidate_buffer = std::vector<llama_token_data>;

    // `vocab` may be null where no sampler of the chain works on a vocabulary.
    explicit checked_chain(const llama_vocab * vocab);
    std::unique_ptr<checked_chain> clone() const;

    size_t size() const { return links_.size(); }
    // Takes `sampler` over, which is null when custom; `k` is for top_k only.
    void insert(size_t at, const std::string & name, sampler_kind kind, int32_t k, llama_sampler * sampler);
    void erase(size_t at);
    void set_vocab(const llama_vocab * vocab) { vocab_ = vocab; }

    // Takes a row of logits, n_vocab >= 1 of them, and returns the index of the first sampler that is still to be
    // applied: top-k and greedy in front are done already. Throws error(engine) for NaN or +inf.
    size_t load(const float * row, int32_t n_vocab);

    // Applies the samplers from `first` on, up to the next custom one, and returns its index, or size() at the
    // end. Throws error(engine) when no token is left, or a sampler leaves logits that are no numbers.
    size_t apply(size_t first);

    // The candidates between two calls of apply(), and the buffer that they lie in. Whoever keeps the buffer keeps
    // it: the next load() takes another one.
    llama_token_data_array & candidates() { return candidates_; }
    const std::shared_ptr<candidate_buffer> & buffer() const { return buffer_; }

    // After a custom sampler has changed logits: nothing is known about their order any more.
    void changed();
    // Selects a token for a custom sampler. Throws error(invalid_request) when it is not among the candidates.
    void select(int64_t token);

    // Accepts the selected token and returns it. Throws error(invalid_request) when no sampler selected one,
    // error(engine) when a grammar of the chain does not allow it.
    llama_token accept_selected();

    // Tells the samplers about a token. Throws error(invalid_request) when a grammar does not allow it.
    void accept(llama_token token);
    void reset();

    // Whether an error of llama.cpp's own left samplers in states that do not fit together; reset() mends that.
    bool broken() const { return broken_; }

    int64_t time_us() const { return time_us_; }  // spent in samplers, custom ones excepted
    int64_t n_accepted() const { return n_accepted_; }

  private:
    struct link {
        std::string name;
        sampler_kind kind;
        int32_t k;
        llama_sampler_ptr sampler;
        bool is_grammar() const { return kind == sampler_kind::grammar || kind == sampler_kind::lazy_patterns; }
    };

    void check(const std::string & after, bool numbers);
    bool grammars_allow(llama_token token);
    bool grammars_wait();
    void tell(llama_token token);

    const llama_vocab * vocab_;
    std::vector<link> links_;
    std::shared_ptr<candidate_buffer> buffer_;
    llama_token_data_array candidates_{nullptr, 0, -1, false};
    size_t n_searched_ = 0;  // bytes of text that lazy_patterns may search at the next token
    bool broken_ = false;
    int64_t time_us_ = 0;
    int64_t n_accepted_ = 0;
};

}  // namespace pyllama
