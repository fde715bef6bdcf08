// Controls on the wire: the body of a control request, its answer, and the member `control` of a stream's chunk. Pure
// functions: any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "control.h"
#include "json.h"

namespace pyllama {

// {"id":...,"action":...} and the action's own members.
struct control_request {
    std::string id;  // empty in process
    control_command command;
    int32_t choice = -1;                        // which of n; -1 = all
    std::shared_ptr<const common_json> fields;  // sampling: the whole body, to be read with what it changes
    std::string text;                           // inject: not empty then
};

// Throws error(invalid_request), with llama-server's words for the id and the action. in_process: there is no id.
control_request parse_control(std::string_view body, bool in_process);

// {"success":true,"applied":...,"state":...,"paused":...,"position":...,"event_id":null}; with several results the
// first success tells, and "choices" has them all. Throws error(busy) when all of them were refused for that.
std::string control_answer(const std::vector<control_result> & results, bool in_process);

// {"action":...,"applied":...,...}
void append_control_note(std::string & out, const control_note & note);

}  // namespace pyllama
