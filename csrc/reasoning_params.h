// What the slot knows of a request's reasoning: the tags, the budget, and the text that ends a block by force. Made on
// the caller's thread, by prompt preparation.
#pragma once

#include <string>
#include <vector>

#include "common.h"

namespace pyllama {

class model;

// The tags as text: the template's, or a client's own for a prompt that no template made.
struct reasoning_tags {
    std::string start;
    std::vector<std::string> ends;  // any of them ends a block; the first is the one that is forced
    bool open = false;              // the prompt ends inside a block
    bool from_client = false;
};

// What the request and the flags ask for.
struct reasoning_wishes {
    int32_t budget = -1;  // tokens inside blocks, over the whole answer; -1 = no limit
    std::string message;  // put before the end tag of a forced end; never becomes a control token
    int32_t soft = -1;    // of the budget, its last tokens, in which the end is sought; -1 = as the server was started
};

struct reasoning_params {
    std::vector<llama_tokens> start;
    std::vector<llama_tokens> end;  // empty: nothing is reasoning
    // The same as text, for tokens that hold a tag and more. No start tag with a token of its own: its words in an
    // answer open nothing. Any spelling of an end tag ends the block, as it does for the chat parser.
    std::vector<std::string> start_text;
    std::vector<std::string> end_text;
    bool open = false;
    int32_t budget = -1;
    int32_t soft = 0;
    // The message and the end tag: as the template writes the tag, with white space around it, and the bare tag, for
    // grammars that allow no more. Empty when the tag would end the answer too.
    llama_tokens forced;
    llama_tokens forced_bare;
};

// Throws error(invalid_request), naming the field, when the message or a tag cannot be used.
reasoning_params make_reasoning_params(const model & model, const reasoning_tags & tags,
                                       const reasoning_wishes & wishes);

// Whether the last tag in a text is the start tag.
bool leaves_open(const reasoning_tags & tags, const std::string & text);

}  // namespace pyllama
