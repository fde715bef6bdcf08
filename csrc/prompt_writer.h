// Which frame writer a chat request gets. On the caller's thread.
#pragma once

#include <memory>
#include <string>

#include "prompt.h"
#include "request.h"

namespace pyllama {

// continued: content that follows the session's prompt. `prepared` has everything but its writer, and gets its
// receipt.
std::unique_ptr<frame_writer> make_chat_writer(const std::shared_ptr<const model> & model, const chat_request & request,
                                               const common_chat_session & session, const std::string & continued,
                                               dialect dialect, prepared_request & prepared);

}  // namespace pyllama
