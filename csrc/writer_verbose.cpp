#include "writer_verbose.h"

namespace pyllama {

namespace {

// Puts a member into the first object that passes.
class adding_sink : public frame_sink {
  public:
    adding_sink(frame_sink & target, std::string & member) : target_(target), member_(member) {}

    void frame(std::string_view bytes) override {
        const size_t end = bytes.rfind('}');
        if (member_.empty() || end == std::string_view::npos) {
            target_.frame(bytes);
            return;
        }
        std::string with(bytes);
        with.insert(end, member_);
        member_.clear();
        target_.frame(with);
    }

  private:
    frame_sink & target_;
    std::string & member_;
};

}  // namespace

void writer_verbose::pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) {
    if (choice == 0) {
        text_.add(format_, batch);
    }
    inner_->pieces(choice, batch, sink);
}

void writer_verbose::finish(const generation_result & result, frame_sink & sink) {
    if (result.choice == 0) {
        member_ = ",\"__verbose\":" + native_answer(format_, text_, result, true);
    }
    adding_sink with(sink, member_);
    inner_->finish(result, with);
}

void writer_verbose::end(frame_sink & sink) {
    adding_sink with(sink, member_);
    inner_->end(with);
}

}  // namespace pyllama
