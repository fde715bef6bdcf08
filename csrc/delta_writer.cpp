#include "delta_writer.h"

#include <algorithm>

namespace pyllama {

delta_writer::delta_writer(answer_format format, std::vector<chat_parser> parsers) : format_(std::move(format)) {
    choices_.reserve(parsers.size());
    for (chat_parser & parser : parsers) {
        choices_.push_back({static_cast<int32_t>(choices_.size()), std::move(parser), {}, {}});
    }
}

void delta_writer::pieces(int32_t index, std::vector<piece> & batch, frame_sink & sink) {
    choice_state & target = choice(index);
    if (format_.logprobs) {
        append_logprobs(target.logprobs, *format_.loaded_model, batch);
    }
    if (const generation_timings * timings = newest_timings(batch)) {
        target.timings = ",\"timings\":";
        append_timings(target.timings, *timings);
    }
    write(target, target.parser.feed(batch), sink);
}

// The text before it goes first, as far as the parser can tell what it is.
void delta_writer::control(int32_t index, const control_note & note, frame_sink & sink) {
    choice_state & target = choice(index);
    write(target, target.parser.flush(), sink);
    write_control(target, note, sink);
}

void delta_writer::flush(frame_sink & sink) {
    for (choice_state & each : choices_) {
        if (each.parser.flush_due_ms() == 0) {
            write(each, each.parser.flush(), sink);
        }
    }
}

double delta_writer::flush_due_ms() const {
    double soonest = -1;
    for (const choice_state & each : choices_) {
        const double due = each.parser.flush_due_ms();
        soonest = due >= 0 && (soonest < 0 || due < soonest) ? due : soonest;
    }
    return soonest;
}

size_t delta_writer::n_costly() const {
    return static_cast<size_t>(std::count_if(choices_.begin(), choices_.end(),
                                             [](const choice_state & each) { return each.parser.is_costly(); }));
}

void delta_writer::share_budget(size_t n_costly) {
    for (choice_state & each : choices_) {
        each.parser.share_budget(n_costly);
    }
}

}  // namespace pyllama
