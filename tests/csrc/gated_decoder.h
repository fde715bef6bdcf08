// Decoders that tests stop at a call, or let fail there.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>

#include "engine.h"

namespace pyllama_test {

// Fails the n-th decode, as a broken backend would.
inline pyllama::engine::decoder_factory failing_at(int call, pyllama::decode_status how) {
    class failing_decoder : public pyllama::decoder {
      public:
        failing_decoder(const pyllama::model & source, const common_params & params, int failing,
                        pyllama::decode_status how)
            : decoder(source, params), failing_(failing), how_(how) {}
        pyllama::decode_status decode(const std::vector<pyllama::chunk> & plan) override {
            return ++n_calls_ == failing_ ? how_ : decoder::decode(plan);
        }

      private:
        int failing_;
        pyllama::decode_status how_;
        int n_calls_ = 0;
    };
    return [=](const pyllama::model & source, const common_params & params) {
        return std::make_unique<failing_decoder>(source, params, call, how);
    };
}

// Holds the engine thread at the n-th decode until the test opens it.
class decode_gate {
  public:
    explicit decode_gate(int call) : call_(call) {}

    void wait_until_reached() {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return reached_; });
    }

    void open() {
        const std::lock_guard<std::mutex> lock(mutex_);
        open_ = true;
        changed_.notify_all();
    }

    // Engine thread.
    void pass() {
        std::unique_lock<std::mutex> lock(mutex_);
        if (++n_calls_ == call_) {
            reached_ = true;
            changed_.notify_all();
            changed_.wait(lock, [this] { return open_; });
        }
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    int call_;
    int n_calls_ = 0;
    bool reached_ = false;
    bool open_ = false;
};

inline pyllama::engine::decoder_factory gated(const std::shared_ptr<decode_gate> & gate) {
    class gated_decoder : public pyllama::decoder {
      public:
        gated_decoder(const pyllama::model & source, const common_params & params, std::shared_ptr<decode_gate> gate)
            : decoder(source, params), gate_(std::move(gate)) {}
        pyllama::decode_status decode(const std::vector<pyllama::chunk> & plan) override {
            gate_->pass();
            return decoder::decode(plan);
        }

      private:
        std::shared_ptr<decode_gate> gate_;
    };
    return [=](const pyllama::model & source, const common_params & params) {
        return std::make_unique<gated_decoder>(source, params, gate);
    };
}

}  // namespace pyllama_test
