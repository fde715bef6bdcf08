#include "load_client.h"

#include <algorithm>
#include <climits>
#include <iterator>

namespace pyllama_test {

using namespace pyllama;

namespace {

constexpr size_t n_live_most = 6;

const char * const some_fields[] = {
    R"("temperature":0)",
    R"("temperature":1.5)",
    R"("top_k":0)",
    R"("top_p":0.6)",
    R"("min_p":0.2)",
    R"("typical_p":0.7)",
    R"("mirostat":2)",
    R"("xtc_probability":0.5)",
    R"("top_n_sigma":1)",
    R"("repeat_penalty":1.3)",
    R"("dry_multiplier":0.8)",
    R"("seed":7)",
    R"("logit_bias":{"300":2})",
    R"("n":2)",
    R"("n":3)",
    R"("stop":["e","zz"])",
    R"("logprobs":true,"top_logprobs":3)",
    R"("reasoning_budget_tokens":4)",
    R"("reasoning_budget_tokens":6,"reasoning_budget_soft":3)",
    R"("cache_prompt":false)",
    R"("priority":5)",
    R"("priority":-5)",
    R"("return_progress":true)",
    R"("timings_per_token":true)",
    R"("ignore_eos":true)",
    R"("response_format":{"type":"json_object"})",
    R"("tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}])",
};

const char * const some_controls[] = {
    R"({"action":"pause"})",
    R"({"action":"pause","park":true})",
    R"({"action":"resume"})",
    R"({"action":"resume"})",
    R"({"action":"stop"})",
    R"({"action":"reasoning_end"})",
    R"({"action":"reasoning_budget","tokens":3})",
    R"({"action":"reasoning_budget","tokens":"+5"})",
    R"({"action":"sampling","temperature":0.2})",
    R"({"action":"sampling","top_k":0,"top_p":1,"min_p":0,"repeat_penalty":1.1})",
    R"({"action":"inject","text":" Wait, that is wrong."})",
};

template <size_t n>
std::string one_of(const char * const (&texts)[n], random_source & random) {
    return texts[random.below(n)];
}

// What several requests begin with.
std::string system_text(uint32_t which) {
    std::string text = "Conversation " + std::to_string(which) + ". ";
    for (uint32_t i = 0; i < which * 12; ++i) {
        text += "You answer briefly and kindly. ";
    }
    return text;
}

}  // namespace

template <typename Action>
void load_client::allow_refusal(Action action) {
    try {
        action();
    } catch (const error & refusal) {
        CHECK(refusal.kind != error_kind::engine);
        ++n_refused_;
    }
}

void load_client::act() {
    const uint32_t what = random_.below(16);
    if (live_.empty() || what < 4) {
        if (live_.size() >= n_live_most) {
            await(random_.below(n_live_most));
        }
        allow_refusal([&] { submit(); });
    } else if (what < 8) {
        read(any(), random_.one_in(2) ? SIZE_MAX : 1 + random_.below(500));
    } else if (what < 11) {
        allow_refusal([&] { control(any()); });
    } else if (what == 11) {
        live_request & victim = any();
        if (victim.known == nullptr) {
            target_.cancel(victim.handle.control);
        }
    } else if (what == 12) {
        look();
    } else if (what == 13) {
        reread(any());
    } else if (what == 14) {
        allow_refusal([&] { act_on_slot(); });
    } else {
        await(random_.below(static_cast<uint32_t>(live_.size())));
    }
}

std::string load_client::fields() {
    std::string text;
    for (uint32_t n = random_.below(4); n > 0; --n) {
        text += "," + one_of(some_fields, random_);
    }
    text += random_.one_in(2) ? R"(,"reasoning_control":true)" : "";
    return text + (random_.one_in(3) ? "" : R"(,"stream":true)");
}

std::shared_ptr<prepared_request> load_client::prepared() {
    const std::string system = system_text(random_.below(4));
    const std::string question =
        "What is " + std::to_string(10 + random_.below(90)) + " + " + std::to_string(10 + random_.below(90)) + "?";
    const std::string user = R"({"role":"user","content":")" + question + R"("})";
    const std::string messages = R"([{"role":"system","content":")" + system + R"("},)" + user + "]";
    const std::string n_most = std::to_string(random_.one_in(8) ? 0 : 1 + random_.below(60));
    switch (random_.below(7)) {
        case 0:
            return prepare_raw(
                target_,
                R"({"prompt":[")" + system + R"(",")" + question + R"("],"n_predict":)" + n_most + fields() + "}",
                dialect::native);
        case 1:
            return prepare_raw(target_,
                               R"({"prompt":")" + system + question + R"(","max_tokens":)" + n_most + fields() + "}",
                               dialect::openai);
        case 2:
            return prepare(target_, R"({"input":)" + messages + R"(,"max_output_tokens":)" + n_most + fields() + "}",
                           dialect::responses);
        case 3:
            return prepare(target_,
                           R"({"model":"m","system":")" + system + R"(","messages":[)" + user + R"(],"max_tokens":)" +
                               n_most + fields() + "}",
                           dialect::anthropic);
        case 4:
            return prepare(target_, R"({"messages":)" + messages + R"(,"max_tokens":)" + n_most + fields() + "}",
                           dialect::deltas);
        default:
            return prepare(target_, R"({"messages":)" + messages + R"(,"max_tokens":)" + n_most + fields() + "}",
                           dialect::openai);
    }
}

void load_client::submit() {
    live_request made;
    if (!known_.empty() && random_.one_in(3)) {
        made.known = &known_[random_.below(static_cast<uint32_t>(known_.size()))];
        auto plain = request(made.known->prompt, made.known->n_predict);
        plain.model = target_.shared_model();
        made.handle = target_.submit(std::move(plain));
    } else {
        const auto request = prepared();
        made.handle = pyllama::submit(target_, *request, random_.one_in(2) ? "a" : "b");
    }
    if (random_.one_in(3)) {
        made.handle.session->keep(100);
    }
    live_.push_back(std::move(made));
}

void load_client::read(live_request & from, size_t n_most) {
    const read_result found = from.handle.session->read(from.begin + from.text.size(), n_most);
    if (found.lost) {
        from.lost = true;
        from.begin = found.first_offset;
        from.text.clear();
        return;
    }
    from.text += found.slice.text();
    CHECK_EQ(found.next_offset, from.begin + from.text.size());
}

// Another reader, that came in anywhere.
void load_client::reread(const live_request & from) {
    const uint64_t at = from.begin + random_.below(static_cast<uint32_t>(from.text.size() + 1));
    const read_result found = from.handle.session->read(at, 1 + random_.below(2000));
    if (!found.lost) {
        const std::string text = found.slice.text();
        const auto known = from.text.substr(static_cast<size_t>(at - from.begin), text.size());
        CHECK_EQ(text.substr(0, known.size()), known);
    }
}

void load_client::control(live_request & of) {
    if (of.known == nullptr) {
        const auto wanted = read_control(one_of(some_controls, random_), true);
        of.tickets.push_back(post_control(target_, of.handle, *wanted, nullptr, 0));
    }
}

void load_client::look() {
    switch (random_.below(4)) {
        case 0: CHECK(!slots_json(target_).empty()); break;
        case 1: CHECK(!metrics_json(target_).empty()); break;
        case 2: CHECK(!histograms_json(target_).empty()); break;
        default: queue_position(any().handle);
    }
}

void load_client::act_on_slot() {
    constexpr slot_action actions[] = {slot_action::save, slot_action::restore, slot_action::erase};
    const auto id = static_cast<int32_t>(random_.below(static_cast<uint32_t>(target_.n_slots())));
    const std::string name = "s" + std::to_string(random_.below(3));
    slot_action_json(target_, id, actions[random_.below(3)], R"({"filename":")" + name + R"("})");
}

void load_client::await(size_t index) {
    live_request & ended = live_[index];
    const auto alarm = std::make_shared<waker>();
    ended.handle.session->subscribe(alarm, 1);
    while (ended.handle.session->state() != session_state::finished) {
        alarm->wait();
        alarm->drain();
        read(ended, SIZE_MAX);
    }
    ended.handle.session->unsubscribe(alarm.get(), 1);
    read(ended, SIZE_MAX);
    read(ended, SIZE_MAX);  // what was lost is noticed by the first
    const auto failure = ended.handle.session->failure();
    if (failure) {
        CHECK(failure->kind == error_kind::unavailable || failure->kind == error_kind::invalid_request);
    } else if (ended.known != nullptr && !ended.lost) {
        CHECK_EQ(ended.text, ended.known->text);
    }
    for (const auto & ticket : ended.tickets) {
        ticket->subscribe(alarm, 2);
        while (!ticket->results()) {
            alarm->wait();
            alarm->drain();
        }
    }
    ++n_ended_;
    live_.erase(live_.begin() + static_cast<std::ptrdiff_t>(index));
}

void load_client::finish() {
    while (!live_.empty()) {
        await(live_.size() - 1);
    }
}

}  // namespace pyllama_test
