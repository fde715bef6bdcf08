#include "block_writer.h"

#include <utility>

#include "random_id.h"

namespace pyllama {

void block_writer::open(answer_block && block, frame_sink & sink) {
    close(true, sink);
    block.index = blocks_.size();
    blocks_.push_back(std::move(block));
    open_ = true;
    opened(blocks_.back(), sink);
}

void block_writer::close(bool complete, frame_sink & sink) {
    if (std::exchange(open_, false)) {
        blocks_.back().complete = complete;
        closed(blocks_.back(), sink);
    }
}

void block_writer::add(const std::string & text, std::string logprobs, frame_sink & sink) {
    answer_block & block = blocks_.back();
    block.text += text;
    if (block.type == answer_block::kind::content && !logprobs.empty()) {
        block.logprobs += (block.logprobs.empty() ? "" : ",") + logprobs;
    }
    grew(block, text, logprobs, sink);
}

void block_writer::grow(answer_block::kind type, const std::string & text, std::string logprobs, frame_sink & sink) {
    if (text.empty()) {
        return;
    }
    if (!open_ || blocks_.back().type != type) {
        answer_block block;
        block.type = type;
        block.id = random_id();
        open(std::move(block), sink);
    }
    add(text, std::move(logprobs), sink);
}

// The parser tells each call whole before the next one begins.
void block_writer::grow_call(const tool_call_delta & delta, frame_sink & sink) {
    if (!delta.name.empty()) {
        answer_block block;
        block.type = answer_block::kind::tool_call;
        block.id = delta.id;
        block.name = delta.name;
        call_ = delta.index;
        open(std::move(block), sink);
    }
    const bool goes_on = open_ && blocks_.back().type == answer_block::kind::tool_call && call_ == delta.index;
    if (goes_on && !delta.arguments.empty()) {
        choices_.front().logprobs.clear();
        add(delta.arguments, {}, sink);
    }
}

void block_writer::write(choice_state &, const chat_delta & delta, frame_sink & sink) {
    std::string & logprobs = choices_.front().logprobs;
    if (!delta.content.empty()) {
        // Nobody knows which tokens of a delta that has both are the reasoning's.
        std::string of_content = std::exchange(logprobs, {});
        grow(answer_block::kind::reasoning, delta.reasoning, {}, sink);
        grow(answer_block::kind::content, delta.content, std::move(of_content), sink);
    } else if (!delta.reasoning.empty()) {
        logprobs.clear();
        grow(answer_block::kind::reasoning, delta.reasoning, {}, sink);
    }
    for (const tool_call_delta & call : delta.tool_calls) {
        grow_call(call, sink);
    }
}

void block_writer::finish(const generation_result & result, frame_sink & sink) {
    choice_state & only = choices_.front();
    write(only, only.parser.finish(is_complete(result)), sink);
    close(result.reason == finish_reason::stop, sink);
    result_ = result;
}

}  // namespace pyllama
