// llama-server's own completion events:
//
//   (progress | control | {"index","content","tokens","stop":false,...})*, {...,"stop":true,"generation_settings",...}
//
// No [DONE]. Where the request allows controls, all but the last also have the "id" that controls name.
#pragma once

#include "completion_writer.h"

namespace pyllama {

class writer_native_stream : public completion_stream {
  public:
    using completion_stream::completion_stream;

    void pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) override;
    void finish(const generation_result & result, frame_sink & sink) override;
    void end(frame_sink &) override {}

  private:
    void open_event(int32_t choice) override;
    void tell(int32_t choice, frame_sink & sink);
};

}  // namespace pyllama
