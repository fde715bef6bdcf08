// What a control of a running generation did. Plain values: they travel from the engine thread to the caller and,
// in a control_note, along the stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace pyllama {

enum class control_action { reasoning_end, reasoning_budget, pause, resume, stop, sampling, inject };
inline constexpr size_t n_control_actions = 7;

// Their names on the wire, in the order of the enumeration.
inline constexpr const char * control_action_names[n_control_actions] = {
    "reasoning_end", "reasoning_budget", "pause", "resume", "stop", "sampling", "inject"};

// Where a generation is, whether it is paused there or not.
enum class request_state { queued, prefill, reasoning, content, finished };

struct control_result {
    bool success = false;
    bool applied = false;  // it has taken effect; false with success: it will as soon as it can
    bool brief = false;    // over HTTP, the message is all that is said
    bool busy = false;     // refused because too many controls of this completion wait
    std::optional<request_state> state;
    int32_t queue_position = -1;  // while queued: requests before it
    bool paused = false;
    int32_t position = -1;  // tokens of the answer before the first one it concerns; -1 while not applied
    std::string message;    // why there is no success
};

// A control that took effect, at its place in the stream, or what happened to the generation there without one.
struct control_note {
    control_action action = control_action::stop;
    control_result result;
    const char * event = nullptr;  // "park": its cells were needed; "unpark": it has cells again

    const char * name() const { return event != nullptr ? event : control_action_names[static_cast<size_t>(action)]; }
};

}  // namespace pyllama
