// The JSON of OpenAI's Responses: a response and its output items. As frame_writer: one thread at a time.
//
//   answer block   item id    item
//   reasoning      rs_...     {"type":"reasoning","content":[{"type":"reasoning_text",...}],"summary":[],...}
//   content        msg_...    {"type":"message","content":[{"type":"output_text",...}],"role":"assistant",...}
//   tool call      fc_<call>  {"type":"function_call","call_id":"call_<call>","name":...,"arguments":...}
#pragma once

#include <string>
#include <string_view>

#include "block_writer.h"

namespace pyllama {

struct responses_format : answer_format {
    std::string repeated;    // members of the request that each response object repeats: ,"name":value...
    bool telemetry = false;  // the client asked for llama-server's, and so looks for its last event: completed
    bool background = false;
};

enum class response_status { queued, in_progress, completed, incomplete, failed, cancelled };

std::string item_id(const answer_block & block);

// An item that has just been added: without its text.
void append_new_item(std::string & out, const answer_block & block);
void append_item(std::string & out, const answer_block & block);

// The one content part of a reasoning or message item, with the text so far or without any.
void append_part(std::string & out, const answer_block & block, bool with_text);

// The response object: usage and the end's time come with `result`, which is null before the end.
void append_response(std::string & out, const responses_format & format, response_status status,
                     const std::vector<answer_block> & blocks, const generation_result * result,
                     const error * failure = nullptr);

// How an answer that has finished stands.
response_status status_of(const generation_result & result);

}  // namespace pyllama
