// Controls in the few calls that the bindings make. Any thread; none of them waits for the engine.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "control_json.h"
#include "engine.h"

namespace pyllama {

// parse_control with its result on the heap, and the id it names.
std::shared_ptr<control_request> read_control(const std::string & body, bool in_process);
std::string completion_id(const control_request & request);

// Whether posting it builds samplers or tokenises, which can take milliseconds.
bool takes_time(const control_request & request);

// Posts a control to a submitted request; `key` is marked at `wakes` once it is answered. Throws
// error(invalid_request) for a choice that the request does not have, and for text that cannot be injected.
std::shared_ptr<control_ticket> post_control(engine & target, const submitted & handle, const control_request & request,
                                             const std::shared_ptr<waker> & wakes, uint64_t key);

// The answer as JSON, empty while there is none yet. Throws error(busy).
std::string control_answer_of(const control_ticket & ticket, bool in_process);

}  // namespace pyllama
