// llama-server's own completion as one JSON body; of several choices a list.
#pragma once

#include "completion_writer.h"

namespace pyllama {

class writer_native_body : public completion_body {
  public:
    using completion_body::completion_body;

    void finish(const generation_result & result, frame_sink & sink) override;
    void end(frame_sink & sink) override;
};

}  // namespace pyllama
