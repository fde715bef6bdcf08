#include "control_facade.h"

namespace pyllama {

namespace {

void post_to(engine & target, generation_control & to, const control_request & request, posted_control && control) {
    if (!request.fields) {
        target.control(to, std::move(control));
        return;
    }
    const std::lock_guard<std::mutex> lock(to.params_mutex);
    if (to.params) {
        control.command.sampling =
            make_sampling_change(*target.shared_model(), *request.fields, *to.params, target.n_ctx_slot());
    }
    const auto change = control.command.sampling;
    if (target.control(to, std::move(control))) {
        to.params = std::make_shared<generation_params>(change->params);
    }
}

}  // namespace

std::shared_ptr<control_request> read_control(const std::string & body, bool in_process) {
    return std::make_shared<control_request>(parse_control(body, in_process));
}

std::string completion_id(const control_request & request) {
    return request.id;
}

bool builds_samplers(const control_request & request) {
    return request.fields != nullptr;
}

std::shared_ptr<control_ticket> post_control(engine & target, const submitted & handle, const control_request & request,
                                             const std::shared_ptr<waker> & wakes, uint64_t key) {
    if (request.choice > 0) {
        throw bad_request("'choice' must be less than the number of choices, which is 1", "choice");
    }
    const auto ticket = std::make_shared<control_ticket>(request.command.action, 1);
    if (wakes) {
        ticket->subscribe(wakes, key);
    }
    post_to(target, *handle.control, request, {request.command, ticket, 0});
    return ticket;
}

std::string control_answer_of(const control_ticket & ticket, bool in_process) {
    const auto results = ticket.results();
    return results ? control_answer(*results, in_process) : std::string();
}

}  // namespace pyllama
