#include "delta_writer.h"

namespace pyllama {

delta_writer::delta_writer(answer_format format, chat_parser parser)
    : format_(std::move(format)), parser_(std::move(parser)) {}

void delta_writer::pieces(std::vector<piece> & batch, frame_sink & sink) {
    if (format_.logprobs) {
        append_logprobs(logprobs_, *format_.loaded_model, batch);
    }
    if (const generation_timings * timings = newest_timings(batch)) {
        timings_ = ",\"timings\":";
        append_timings(timings_, *timings);
    }
    write(parser_.feed(batch), sink);
}

// The text before it goes first, as far as the parser can tell what it is.
void delta_writer::control(const control_note & note, frame_sink & sink) {
    write(parser_.flush(), sink);
    write_control(note, sink);
}

void delta_writer::flush(frame_sink & sink) {
    write(parser_.flush(), sink);
}

}  // namespace pyllama
