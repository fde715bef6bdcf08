// Controls of a running generation:
//
//   caller --post--> generation_control, a bounded mailbox --top of a step--> engine thread
//   caller <--waker-- control_ticket <--complete-- engine thread
//
// A posted control is answered exactly once, whatever becomes of the request. Any thread, unless said otherwise.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "control_result.h"
#include "waker.h"

namespace pyllama {

// A reasoning budget: a number, more of it, or none.
struct budget_change {
    bool relative = false;
    int32_t tokens = -1;  // -1 = no limit
};

struct generation_params;
struct sampling_change;

struct control_command {
    control_action action = control_action::stop;
    budget_change budget;                              // reasoning_budget
    bool park = false;                                 // pause: give slot and cells to others
    std::shared_ptr<sampling_change> sampling;         // sampling
    std::shared_ptr<const std::vector<int32_t>> text;  // inject: its tokens
};

// The caller's receipt: one part for each generation that the control goes to.
class control_ticket {
  public:
    control_ticket(control_action action, size_t n_parts);

    control_action action() const { return action_; }

    // Answers one part. With the last one the subscriber is woken.
    void complete(size_t part, control_result result);

    // Marks `key` when every part is answered, at once when they are already. One subscriber.
    void subscribe(std::shared_ptr<waker> target, uint64_t key);

    // The answers, by part; nothing before all are there.
    std::optional<std::vector<control_result>> results() const;

  private:
    const control_action action_;
    mutable std::mutex mutex_;
    std::vector<control_result> results_;
    size_t n_missing_;
    std::shared_ptr<waker> target_;
    uint64_t key_ = 0;
};

struct posted_control {
    control_command command;
    std::shared_ptr<control_ticket> ticket;
    size_t part = 0;
};

// What the choices of one request share.
struct choice_group {
    std::atomic<bool> cancelled{false};
    std::atomic<int32_t> queue_position{-1};  // requests before it in the queue; -1 when it does not wait there
    // Engine thread only, once submitted.
    int32_t n_open = 1;       // choices that have not ended
    bool has_answer = false;  // one of them ended without a failure
};

// Shared by the engine and the handle of a request: one for each choice.
class generation_control {
  public:
    // Controls that wait, or whose note has not left for the stream; more are refused as busy.
    static constexpr size_t n_outstanding_max = 64;

    // opted_in: the request allows controls. owner: who may count its pauses together, an API key for example.
    explicit generation_control(bool opted_in = false, std::string owner = {},
                                std::shared_ptr<choice_group> group = std::make_shared<choice_group>());
    ~generation_control();
    generation_control(const generation_control &) = delete;
    generation_control & operator=(const generation_control &) = delete;

    const std::shared_ptr<choice_group> group;

    bool opted_in() const { return opted_in_; }
    const std::string & owner() const { return owner_; }

    // Queues a control for the engine thread (true), or answers it at once: the request has ended, did not opt in, or
    // has too many outstanding.
    bool post(posted_control && control);

    // What the parameters will be when everything posted is applied; null unless opted in. Held while a change is made
    // of them and posted, so that changes build on one another. Callers' threads only.
    std::mutex params_mutex;
    std::shared_ptr<const generation_params> params;

    // Engine thread.
    bool waiting() const { return waiting_.load(std::memory_order_acquire); }
    std::vector<posted_control> take();
    void add_note();        // a note that answers nobody is on its way: it counts as outstanding too
    void settle(size_t n);  // n controls are answered, and their notes have left
    void close();           // the request has ended: what waits and what comes is answered so; idempotent

  private:
    const bool opted_in_;
    const std::string owner_;
    std::atomic<bool> waiting_{false};
    std::mutex mutex_;
    std::vector<posted_control> posted_;
    size_t n_outstanding_ = 0;
    bool closed_ = false;
};

// The answers for controls that find no request, or one that did not opt in: llama-server's, to the byte.
control_result not_active();
control_result not_enabled();

}  // namespace pyllama
