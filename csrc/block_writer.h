// What the dialects share whose answer is a list of blocks: each run of reasoning, each run of content and each tool
// call is one. Blocks come one after the other:
//
//   none --delta of some kind--> open --delta of the same kind, or of the same call--> open
//                                 \--delta of another kind, the next call, the end--> closed
//
// A dialect says what is told at each of the three: opened(), grew(), closed(). One choice only.
#pragma once

#include "delta_writer.h"

namespace pyllama {

struct answer_block {
    enum class kind { reasoning, content, tool_call };

    kind type = kind::content;
    size_t index = 0;      // in the answer
    std::string id;        // a call's as the parser gives it, else a random one
    std::string name;      // of a call
    std::string text;      // as far as it came; a call's arguments
    std::string logprobs;  // of content: JSON objects, joined by commas
    bool complete = false;
};

class block_writer : public delta_writer {
  public:
    using delta_writer::delta_writer;

    void finish(const generation_result & result, frame_sink & sink) override;

  protected:
    virtual void opened(const answer_block &, frame_sink &) {}
    // `logprobs`: of the tokens since the last growth, as delta_writer has them.
    virtual void grew(const answer_block &, std::string_view, const std::string & /* logprobs */, frame_sink &) {}
    virtual void closed(const answer_block &, frame_sink &) {}

    void write(choice_state & choice, const chat_delta & delta, frame_sink & sink) override;

    const std::vector<answer_block> & blocks() const { return blocks_; }
    // Of the answer once it has finished.
    const generation_result & result() const { return result_; }
    bool has_tool_calls() const { return choices_.front().parser.has_tool_calls(); }
    const std::string & timings() const { return choices_.front().timings; }

  private:
    void open(answer_block && block, frame_sink & sink);
    void close(bool complete, frame_sink & sink);
    void grow(answer_block::kind type, const std::string & text, std::string logprobs, frame_sink & sink);
    void grow_call(const tool_call_delta & delta, frame_sink & sink);
    void add(const std::string & text, std::string logprobs, frame_sink & sink);

    std::vector<answer_block> blocks_;  // the last one may be open
    size_t call_ = 0;                   // number of the last call
    bool open_ = false;
    generation_result result_;
};

}  // namespace pyllama
