// The engine in the few calls that the bindings make, with what they show of it as JSON. Any thread; calls that
// compute or wait say so.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "engine.h"
#include "load_progress.h"
#include "text_requests.h"

namespace pyllama {

// Loads the model and starts the engine: seconds to minutes. Throws error(model_load), also when `progress` was told
// to stop.
std::shared_ptr<engine> make_engine(const server_params & params, load_progress & progress);

// prepare_chat with the engine's limits: milliseconds.
std::shared_ptr<prepared_request> prepare(engine & target, const std::string & body, dialect which);
// prepare_completion and prepare_infill in the same way.
std::shared_ptr<prepared_request> prepare_raw(engine & target, const std::string & body, dialect which);
std::shared_ptr<prepared_request> prepare_fill(engine & target, const std::string & body);
// prepare_embedding and prepare_rerank in the same way.
std::shared_ptr<prepared_request> prepare_embeddings(engine & target, const std::string & body, dialect which);
std::shared_ptr<prepared_request> prepare_ranks(engine & target, const std::string & body);
// prepare_decision in the same way.
std::shared_ptr<prepared_request> prepare_decisions(engine & target, const std::string & body);
// Answers what needs the model's text side only: milliseconds.
std::string answer_text(engine & target, text_request kind, const std::string & body);
std::string content_type(const prepared_request & prepared);

// owner: who counts as one client, an API key for example. priority: of its requests, and the highest that they may ask
// for; null where they may ask for any.
submitted submit(engine & target, prepared_request & prepared, const std::string & owner,
                 std::optional<int32_t> priority = {});

// Requests before it in the queue; -1 when it does not wait there.
int32_t queue_position(const submitted & handle);

std::string metrics_json(engine & target);
std::string histograms_json(engine & target);
std::string slots_json(engine & target);  // waits for the running step
std::string props_json(engine & target);
std::string model_info_json(engine & target);

// The LoRA adapters and their scales. Both wake a sleeping engine; the body is a list of {"id", "scale"}.
std::string lora_adapters_json(engine & target);
void set_lora_adapters(engine & target, const std::string & body);

enum class slot_action { save, restore, erase };

// POST /slots/{id}: waits until the slot is idle. body: {"filename"}, of save and restore.
std::string slot_action_json(engine & target, int32_t id, slot_action action, const std::string & body);

// Throws the error that ended the session, if one did.
void raise_failure(const stream_session & session);

}  // namespace pyllama
