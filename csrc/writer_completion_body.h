// OpenAI's legacy text_completion as one JSON body.
#pragma once

#include "completion_writer.h"

namespace pyllama {

class writer_completion_body : public completion_body {
  public:
    using completion_body::completion_body;

    void finish(const generation_result & result, frame_sink & sink) override;
    void end(frame_sink & sink) override;

  private:
    generation_result total_;
};

}  // namespace pyllama
