// The JSON of Anthropic's messages. As frame_writer: one thread at a time.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "block_writer.h"

namespace pyllama {

struct anthropic_format : answer_format {
    std::vector<std::string> stop;  // the stop strings that the client would be told of
};

// A block that has just begun: without its text.
void append_new_block(std::string & out, const answer_block & block);
void append_block(std::string & out, const answer_block & block);

// "stop_reason":...,"stop_sequence":...
void append_stop(std::string & out, const anthropic_format & format, const generation_result & result,
                 bool has_tool_calls);

// {"input_tokens":...,"cache_read_input_tokens":...,"output_tokens":...,...}
void append_anthropic_usage(std::string & out, const generation_result & result);

// "id":...,"type":"message","role":"assistant","model":...
std::string message_members(const anthropic_format & format);

}  // namespace pyllama
