#include "engine_fixture.h"

#include <algorithm>
#include <climits>
#include <random>
#include <sstream>

#include "check.h"
#include "logit_row.h"

namespace pyllama_test {

using namespace pyllama;

void token_writer::progress(const prefill_progress & progress, frame_sink & sink) {
    sink.frame(std::to_string(progress.n_processed) + "/" + std::to_string(progress.n_total) + " ");
}

void token_writer::pieces(int32_t choice, std::vector<piece> & batch, frame_sink & sink) {
    std::string text;
    for (const auto & each : batch) {
        text += tag(choice) + std::to_string(each.token) + " ";
        if (each.timings) {
            text += "@" + std::to_string(each.timings->n_decoded) + " ";
        }
    }
    sink.frame(text);
}

void token_writer::control(int32_t choice, const control_note & note, frame_sink & sink) {
    sink.frame(tag(choice) + (note.result.applied ? "<" : "<!") + note.name() + (n_choices_ > 1 ? "@" : " ") +
               std::to_string(note.result.position) + "> ");
}

void token_writer::finish(const generation_result & result, frame_sink & sink) {
    const std::string name = result.failure                           ? "failed"
                             : result.reason == finish_reason::stop   ? "stop"
                             : result.reason == finish_reason::length ? "length"
                                                                      : "cancelled";
    sink.frame(tag(result.choice) + name + (n_choices_ > 1 ? " " : ""));
}

void token_writer::fail(const error & reason, frame_sink & sink) {
    sink.frame(std::string("error: ") + reason.what());
}

std::shared_ptr<const model> demo_model() {
    static const std::shared_ptr<const model> loaded = [] {
        common_params params;
        params.model.path = PYLLAMA_DEMO_GGUF;
        return model::load(params);
    }();
    return loaded;
}

server_params engine_params(int n_slots, int n_ctx, bool unified) {
    server_params params;
    params.common.model.path = PYLLAMA_DEMO_GGUF;
    params.common.n_parallel = n_slots;
    params.common.n_ctx = n_ctx;
    params.common.n_batch = 256;
    params.common.n_ubatch = 128;
    params.common.kv_unified = unified;
    params.common.cache_ram_mib = 0;  // what is computed is what the slots do
    params.step_budget_ms = -1;       // and how many steps that takes does not depend on the machine
    params.common.cpuparams.n_threads = 1;
    params.common.cpuparams_batch.n_threads = 1;
    return params;
}

prepared_request request(const std::vector<llama_token> & tokens, int n_predict, int n_choices) {
    prepared_request made;
    made.n_choices = n_choices;
    made.id = "test";
    made.stream = true;
    made.tokens = tokens;
    made.params.n_predict = n_predict;
    made.params.sampling.temp = 0.0f;
    const llama_vocab * vocab = demo_model()->vocab();
    for (llama_token token = 0; token < llama_vocab_n_tokens(vocab); ++token) {
        if (llama_vocab_is_eog(vocab, token)) {
            made.params.sampling.logit_bias.push_back({token, -INFINITY});
        }
    }
    made.writer = std::make_unique<token_writer>(n_choices);
    return made;
}

// A question that the model was trained on, after small talk of any length: its margins are then far above what
// the kernels' rounding differs by between batch shapes.
std::vector<llama_token> prompt(uint32_t seed, size_t n_tokens) {
    random_source random(seed);
    const llama_vocab * vocab = demo_model()->vocab();
    const std::string sum = std::to_string(10 + random.below(80)) + " + " + std::to_string(10 + random.below(80));
    auto question = common_tokenize(vocab, "<|im_start|>user\nWhat is " + sum + "?<|im_end|>\n<|im_start|>assistant\n",
                                    false, true);
    if (question.size() >= n_tokens) {
        question.erase(question.begin(), question.end() - static_cast<std::ptrdiff_t>(n_tokens));
        return question;
    }
    std::string talk;
    while (talk.size() < n_tokens * 16) {
        talk += "<|im_start|>user\nHello " + std::to_string(random.below(1000)) +
                "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nHello!<|im_end|>\n";
    }
    auto tokens = common_tokenize(vocab, talk, false, true);
    tokens.erase(tokens.begin(), tokens.end() - static_cast<std::ptrdiff_t>(n_tokens - question.size()));
    tokens.insert(tokens.end(), question.begin(), question.end());
    return tokens;
}

namespace {

template <typename Done>
void wait_until(const submitted & handle, Done done) {
    const auto alarm = std::make_shared<waker>();
    handle.session->subscribe(alarm, 1);
    while (!done()) {
        alarm->wait();
        alarm->drain();
    }
    handle.session->unsubscribe(alarm.get(), 1);
}

}  // namespace

prepared_request controlled(const std::vector<llama_token> & prompt, int n_predict, int n_choices) {
    prepared_request made = request(prompt, n_predict, n_choices);
    made.params.sampling.reasoning_control = true;
    return made;
}

std::shared_ptr<control_ticket> post(engine & target, generation_control & to, const control_command & command) {
    const auto ticket = std::make_shared<control_ticket>(command.action, 1);
    target.control(to, {command, ticket, 0});
    return ticket;
}

control_result wait_for(const std::shared_ptr<control_ticket> & ticket) {
    const auto alarm = std::make_shared<waker>();
    ticket->subscribe(alarm, 1);
    while (!ticket->results()) {
        alarm->wait();
        alarm->drain();
    }
    return ticket->results()->front();
}

std::string without_notes(std::string text) {
    for (size_t begin; (begin = text.find('<')) != std::string::npos;) {
        text.erase(begin, text.find("> ", begin) + 2 - begin);
    }
    return text;
}

std::string answer(const submitted & handle) {
    wait_until(handle, [&] { return handle.session->state() == session_state::finished; });
    return handle.session->read(0, SIZE_MAX).slice.text();
}

std::vector<std::string> answers(const submitted & handle, int n_choices) {
    std::vector<std::string> texts(static_cast<size_t>(n_choices));
    std::istringstream words(answer(handle));
    for (std::string word; words >> word;) {
        const size_t colon = word.find(':');
        std::string & text = texts.at(std::stoul(word));
        if (word[colon + 1] == '<') {
            continue;  // a control's note
        }
        text += (text.empty() ? "" : " ") + word.substr(colon + 1);
    }
    return texts;
}

void wait_for_bytes(const submitted & handle, uint64_t n_bytes) {
    wait_until(handle, [&] {
        return handle.session->end_offset() >= n_bytes || handle.session->state() == session_state::finished;
    });
}

std::string plain_loop(const std::vector<llama_token> & tokens, int n_predict, int n_ctx) {
    auto options = llama_context_default_params();
    options.n_ctx = static_cast<uint32_t>(n_ctx);
    options.n_batch = options.n_ubatch = 512;
    options.n_threads = options.n_threads_batch = 1;
    const llama_context_ptr context(llama_init_from_model(demo_model()->handle(), options));
    const llama_vocab * vocab = demo_model()->vocab();
    std::vector<llama_token> next = tokens;
    std::string text;
    for (int i = 0; i < n_predict; ++i) {
        CHECK_EQ(llama_decode(context.get(), llama_batch_get_one(next.data(), static_cast<int32_t>(next.size()))), 0);
        const float * row = llama_get_logits_ith(context.get(), -1);
        std::vector<float> masked(row, row + llama_vocab_n_tokens(vocab));
        for (llama_token token = 0; token < llama_vocab_n_tokens(vocab); ++token) {
            if (llama_vocab_is_eog(vocab, token)) {
                masked[static_cast<size_t>(token)] = -INFINITY;
            }
        }
        const llama_token chosen = select_greedy(masked.data(), static_cast<int32_t>(masked.size()));
        text += std::to_string(chosen) + " ";
        next = {chosen};
    }
    return text + "length";
}

class step_gate::gated_decoder : public decoder {
  public:
    gated_decoder(const model & source, const common_params & params, step_gate & gate)
        : decoder(source, params), gate_(gate) {}
    decode_status decode(const std::vector<chunk> & plan) override {
        gate_.pass();
        return decoder::decode(plan);
    }

  private:
    step_gate & gate_;
};

engine::decoder_factory step_gate::decoder() {
    return [this](const model & source, const common_params & params) {
        return std::make_unique<gated_decoder>(source, params, *this);
    };
}

void step_gate::pass() {
    std::unique_lock<std::mutex> lock(mutex_);
    ++n_begun_;
    changed_.notify_all();
    changed_.wait(lock, [this, mine = n_begun_] { return mine <= n_allowed_; });
}

void step_gate::run(int n) {
    std::unique_lock<std::mutex> lock(mutex_);
    n_allowed_ += n;
    changed_.notify_all();
    changed_.wait(lock, [this] { return n_begun_ > n_allowed_; });
}

void step_gate::open() {
    const std::lock_guard<std::mutex> lock(mutex_);
    n_allowed_ = INT_MAX;
    changed_.notify_all();
}

int step_gate::n_begun() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return n_begun_;
}

void wait_until_idle(engine & target) {
    // slots() is answered between two steps, so this never spins without progress.
    for (;;) {
        const auto slots = target.slots();
        const bool busy = std::any_of(slots.begin(), slots.end(), [](const slot_info & info) { return info.busy; });
        if (!busy && target.metrics().n_queued.load() == 0) {
            return;
        }
    }
}

}  // namespace pyllama_test
