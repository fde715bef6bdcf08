#include "control_facade.h"

#include "tokenize.h"

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

// The request's text goes as tokens. While the engine sleeps every request has ended, and its controls need none.
control_command with_text(const engine & target, const generation_control & to, const control_request & request) {
    control_command command = request.command;
    const auto model = request.text.empty() || !to.opted_in() ? nullptr : target.awake_model();
    if (model) {
        command.text = std::make_shared<llama_tokens>(tokenize_answer(model->vocab(), request.text, "text"));
    }
    return command;
}

}  // namespace

std::shared_ptr<control_request> read_control(const std::string & body, bool in_process) {
    return std::make_shared<control_request>(parse_control(body, in_process));
}

std::string completion_id(const control_request & request) {
    return request.id;
}

bool takes_time(const control_request & request) {
    return request.fields != nullptr || !request.text.empty();
}

std::shared_ptr<control_ticket> post_control(engine & target, const submitted & handle, const control_request & request,
                                             const std::shared_ptr<waker> & wakes, uint64_t key) {
    const size_t n_choices = handle.choices.size();
    if (request.choice >= static_cast<int64_t>(n_choices)) {
        throw bad_request("'choice' must be less than the number of choices, which is " + std::to_string(n_choices),
                          "choice");
    }
    const bool all = request.choice < 0;
    const control_command command = with_text(target, *handle.control, request);
    const auto ticket = std::make_shared<control_ticket>(request.command.action, all ? n_choices : 1);
    if (wakes) {
        ticket->subscribe(wakes, key);
    }
    if (!all) {
        post_to(target, *handle.choices[static_cast<size_t>(request.choice)], request, {command, ticket, 0});
        return ticket;
    }
    for (size_t i = 0; i < n_choices; ++i) {
        post_to(target, *handle.choices[i], request, {command, ticket, i});
    }
    return ticket;
}

std::string control_answer_of(const control_ticket & ticket, bool in_process) {
    const auto results = ticket.results();
    return results ? control_answer(*results, in_process) : std::string();
}

}  // namespace pyllama
