// A client of the random load: requests of all kinds, read in pieces and from anywhere, controlled, cancelled and left
// alone. One thread; several clients share an engine.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "control_facade.h"
#include "engine_facade.h"
#include "engine_fixture.h"

namespace pyllama_test {

// A greedy request whose answer is known, whatever happens around it.
struct known_answer {
    std::vector<llama_token> prompt;
    int n_predict;
    std::string text;
};

class load_client {
  public:
    load_client(engine & target, uint32_t seed, const std::vector<known_answer> & known)
        : target_(target), random_(seed), known_(known) {}

    // One random thing. Throws check_failed.
    void act();

    // Reads what is left, to the end of each. The engine's end is one of theirs.
    void finish();

    size_t n_ended() const { return n_ended_; }
    size_t n_refused() const { return n_refused_; }

  private:
    struct live_request {
        submitted handle;
        const known_answer * known = nullptr;
        bool lost = false;  // bytes that the ring dropped before they were read
        uint64_t begin = 0;
        std::string text;  // from `begin` on
        std::vector<std::shared_ptr<pyllama::control_ticket>> tickets;
    };

    void submit();
    std::shared_ptr<pyllama::prepared_request> prepared();
    std::string fields();
    void read(live_request & from, size_t n_most);
    void reread(const live_request & from);
    void control(live_request & of);
    void look();
    void act_on_slot();
    void await(size_t index);
    live_request & any() { return live_[random_.below(static_cast<uint32_t>(live_.size()))]; }

    // Requests may be refused, for reasons that the caller can do something about.
    template <typename Action>
    void allow_refusal(Action action);

    engine & target_;
    random_source random_;
    const std::vector<known_answer> & known_;
    std::vector<live_request> live_;
    size_t n_ended_ = 0;
    size_t n_refused_ = 0;
};

}  // namespace pyllama_test
