#include "slot_info.h"

#include "settings_json.h"

namespace pyllama {

namespace {

const char * state_name(slot_state state) {
    switch (state) {
        case slot_state::idle: return "idle";
        case slot_state::reserved: return "reserved";
        case slot_state::waiting: return "waiting";
        case slot_state::encoding: return "encoding";
        case slot_state::prefill: return "prefill";
        case slot_state::paused: return "paused";
        case slot_state::decode: break;
    }
    return "decode";
}

}  // namespace

slot_info describe(const slot & target, int32_t n_ctx) {
    slot_info info;
    info.id = target.id;
    info.n_ctx = n_ctx;
    info.n_cached = static_cast<int32_t>(target.cached.size());
    info.n_shared = static_cast<int32_t>(target.cached.n_shared());
    info.taken = target.taken;
    const slot & shown = target.reserved_for != nullptr ? *target.reserved_for : target;
    if (shown.running) {
        const generation & running = *shown.running;
        info.busy = true;
        info.state = state_name(target.state());
        info.request_id = running.id();
        info.choice = running.choice();
        info.n_prompt = running.n_prompt();
        info.n_prompt_cached = running.timings().n_cached;
        info.n_prompt_processed = running.timings().n_prompt;
        info.n_decoded = running.n_generated();
        info.n_remain = running.params().n_predict < 0 ? -1 : running.params().n_predict - info.n_decoded;
        info.params = settings_json(running.params());
    } else {
        info.state = state_name(slot_state::idle);
    }
    return info;
}

}  // namespace pyllama
