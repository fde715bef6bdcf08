// One generation without an engine: rows of logits say what the model "says", and an end is asked for between them.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "engine_fixture.h"
#include "generation.h"
#include "scheduler.h"
#include "tokenize.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

struct recorded {
    std::vector<llama_token> tokens;
    std::string text;
    std::vector<bool> with_logprobs;
    std::string reason;
};

class recorder : public frame_writer {
  public:
    explicit recorder(std::shared_ptr<recorded> into) : into_(std::move(into)) {}
    void start(frame_sink &) override {}
    void pieces(int32_t, std::vector<piece> & batch, frame_sink &) override {
        for (const piece & each : batch) {
            into_->tokens.push_back(each.token);
            into_->text += each.text;
            into_->with_logprobs.push_back(each.logprobs != nullptr);
        }
    }
    void finish(const generation_result & result, frame_sink &) override {
        into_->reason = result.reason == finish_reason::stop ? "stop " + result.stop_string : "length";
    }
    void end(frame_sink &) override {}
    void fail(const error & reason, frame_sink &) override { into_->reason = reason.what(); }
    std::string_view content_type() const override { return "text/plain"; }

  private:
    std::shared_ptr<recorded> into_;
};

llama_tokens tokens_of(const std::string & text) {
    return tokenize(demo_model()->vocab(), text, false, true, "");
}

// A generation, and a model that says what it is told.
class scripted {
  public:
    explicit scripted(generation_params params, const reasoning_wishes & wishes, bool open = false,
                      int32_t n_ctx = 4096) {
        reasoning_tags tags;
        tags.start = "<think>";
        tags.ends = {"</think>"};
        tags.open = open;
        params.reasoning = make_reasoning_params(*demo_model(), tags, wishes);
        forced = params.reasoning.forced;
        forced_bare = params.reasoning.forced_bare;
        params.special = true;
        prepared_request prepared;
        prepared.tokens = tokens_of("<|im_start|>");
        prepared.params = std::move(params);
        prepared.writer = std::make_unique<recorder>(said_);
        running = std::make_unique<generation>(demo_model(), std::move(prepared), 0, n_ctx);
    }

    // True while the generation goes on.
    bool say(llama_token token) {
        row_.assign(static_cast<size_t>(demo_model()->n_vocab()), 0.0f);
        row_[static_cast<size_t>(token)] = 1000.0f;
        running->start(renderer_, 0);
        running->sample(row_.data());
        return running->advance(renderer_);
    }
    bool say(const std::string & text) {
        bool goes_on = true;
        for (const llama_token token : tokens_of(text)) {
            goes_on = say(token);
        }
        return goes_on;
    }

    void ask() {
        running->end_reasoning([this](const force_result & result) { told.push_back(result); }, renderer_);
    }
    void set_budget(int32_t tokens) { running->set_reasoning_budget(tokens, renderer_); }

    const recorded & end(finish_reason otherwise = finish_reason::cancelled) {
        running->finish(running->reason().value_or(otherwise), renderer_);
        renderer_.close();
        return *said_;
    }

    std::unique_ptr<generation> running;
    llama_tokens forced;
    llama_tokens forced_bare;
    std::vector<force_result> told;

  private:
    std::shared_ptr<recorded> said_ = std::make_shared<recorded>();
    renderer renderer_;
    std::vector<float> row_;
};

generation_params greedy() {
    generation_params params;
    params.sampling.temp = 0.0f;
    return params;
}

generation_params with_grammar(const std::string & text) {
    auto params = greedy();
    params.sampling.grammar = common_grammar(COMMON_GRAMMAR_TYPE_USER, text);
    return params;
}

}  // namespace

TEST(the_end_is_written_as_the_template_writes_it) {
    scripted it(greedy(), {1, ""});
    CHECK(it.forced == tokens_of("\n</think>\n\n"));
    CHECK(it.forced_bare == tokens_of("</think>"));
    it.say("<think>");
    it.say("I");
    it.say("42");
    CHECK_EQ(it.end().text, "<think>I\n</think>\n\n42");
}

TEST(an_end_that_is_asked_for_is_applied_at_once) {
    scripted it(greedy(), {-1, "Enough."});
    it.say("<think>");
    it.say("I");
    CHECK_EQ(it.running->n_fresh(), 1);
    it.ask();
    CHECK_EQ(it.told.size(), 1u);
    CHECK(it.told[0].outcome == force_outcome::applied);
    CHECK_EQ(it.told[0].position, 2);
    CHECK_EQ(it.told[0].n_tokens, it.forced.size());
    CHECK_EQ(it.running->n_fresh(), 1 + it.forced.size());
    CHECK(!it.running->reasons());
    it.ask();
    CHECK(it.told[1].outcome == force_outcome::refused);
    it.say("42");
    CHECK_EQ(it.running->n_fresh(), 1);
    CHECK_EQ(it.end().text, "<think>IEnough.\n</think>\n\n42");
}

TEST(an_end_waits_for_the_rest_of_a_character) {
    scripted it(greedy(), {-1, ""});
    const auto bytes = tokens_of("\xE2\x82\xAC");
    CHECK_EQ(bytes.size(), 3u);
    it.say("<think>");
    it.say(bytes[0]);
    it.ask();
    CHECK(it.told.empty());
    it.say(bytes[1]);
    CHECK(it.told.empty());
    it.say(bytes[2]);
    CHECK_EQ(it.told.size(), 1u);
    CHECK_EQ(it.told[0].position, 4);
    CHECK_EQ(it.end().text, "<think>\xE2\x82\xAC\n</think>\n\n");
}

TEST(a_budget_waits_for_the_rest_of_a_character) {
    scripted it(greedy(), {2, ""});
    it.say("<think>");
    it.say("I");
    it.say("\xC3\xA9");
    it.say("42");
    CHECK_EQ(it.end().text, "<think>I\xC3\xA9\n</think>\n\n42");
}

TEST(a_natural_end_answers_who_waits) {
    scripted it(greedy(), {-1, ""});
    it.say("<think>");
    it.say(tokens_of("\xC3\xA9")[0]);
    it.ask();
    it.say("</think>");
    CHECK_EQ(it.told.size(), 1u);
    CHECK(it.told[0].outcome == force_outcome::refused);
    CHECK(it.told[0].message.find("by itself") != std::string::npos);
    it.say("<think>");
    CHECK(it.running->reasons());
}

TEST(the_answer_s_end_answers_who_waits) {
    scripted it(greedy(), {-1, ""});
    it.ask();
    CHECK(it.told[0].outcome == force_outcome::armed);
    it.say("42");
    it.end();
    CHECK_EQ(it.told.size(), 2u);
    CHECK(it.told[1].outcome == force_outcome::refused);
}

TEST(an_end_that_is_asked_for_early_is_armed) {
    scripted it(greedy(), {-1, ""});
    it.ask();
    CHECK(it.told[0].outcome == force_outcome::armed);
    it.say("<think>");
    CHECK(it.told[1].outcome == force_outcome::applied);
    CHECK_EQ(it.told[1].position, 1);
    it.say("<think>");  // once
    CHECK(it.running->reasons());
}

TEST(before_the_first_token_the_text_goes_with_the_prompt) {
    scripted it(greedy(), {-1, ""}, true);
    it.ask();
    CHECK(it.told[0].outcome == force_outcome::applied);
    CHECK_EQ(it.told[0].position, 0);
    CHECK_EQ(it.running->tokens().size(), 1 + it.forced.size());
    it.say("42");
    CHECK_EQ(it.end().text, "\n</think>\n\n42");
}

TEST(a_block_that_opens_again_ends_at_once) {
    scripted it(greedy(), {2, ""});
    it.say("<think>");
    it.say("I");
    it.say("</think>");
    it.say("<think>");
    it.say("I");
    CHECK(!it.running->reasons());
    it.say("42");
    it.say("<think>");
    CHECK(!it.running->reasons());
    it.set_budget(3);
    it.say("<think>");
    CHECK(it.running->reasons());
    it.set_budget(1);
    CHECK(!it.running->reasons());
    const std::string forced = "\n</think>\n\n";
    CHECK_EQ(it.end().text, "<think>I</think><think>I" + forced + "42<think>" + forced + "<think>" + forced);
}

TEST(outside_the_reasoning_an_end_is_refused) {
    scripted it(greedy(), {-1, ""});
    it.say("42");
    it.ask();
    CHECK(it.told[0].outcome == force_outcome::refused);
    it.end();
    it.ask();
    CHECK(it.told[1].message.find("has ended") != std::string::npos);
}

TEST(forced_text_has_no_probabilities) {
    auto params = greedy();
    params.n_logprobs = 0;
    scripted it(params, {1, ""});
    it.say("<think>");
    it.say("I");
    it.say("42");
    const auto & said = it.end();
    for (size_t i = 0; i < said.tokens.size(); ++i) {
        CHECK_EQ(said.with_logprobs[i], i < 2 || i >= 2 + it.forced.size());
    }
}

TEST(forced_text_is_no_stop_string) {
    auto params = greedy();
    params.stop = {"IEnough", "Enough", "now.\n</think>\n\n4", "24"};
    scripted it(params, {1, "Enough now."});
    it.say("<think>");
    it.say("I");  // held back: a stop string may begin here
    CHECK(it.say("42"));
    CHECK(!it.say("4"));
    CHECK_EQ(it.end().text, "<think>IEnough now.\n</think>\n\n4");
    CHECK_EQ(it.end().reason, "stop 24");
}

TEST(penalties_see_forced_text) {
    auto params = greedy();
    params.sampling.penalty_last_n = 64;
    params.sampling.penalty_present = 2000.0f;  // more than the scripted model's preference
    scripted it(params, {1, "Enough"});
    it.say("<think>");
    it.say("I");
    const llama_token word = it.forced.front();
    it.say(word);
    CHECK(it.running->tokens().back() != word);
}

TEST(random_numbers_do_not_move_with_forced_text) {
    // A flat distribution: each sampled token tells where the random numbers are.
    const auto draws = [](bool force) {
        generation_params params;
        params.sampling.seed = 5;
        params.sampling.top_k = 0;
        params.sampling.min_p = 0.0f;
        params.sampling.top_p = 1.0f;
        // The answer's own tokens are never tags, so that nothing but the request opens or ends a block.
        for (const char * tag : {"<think>", "</think>", "<|im_end|>"}) {
            params.sampling.logit_bias.push_back({tokens_of(tag).front(), -INFINITY});
        }
        scripted it(params, {-1, ""}, true);
        const std::vector<float> flat(static_cast<size_t>(demo_model()->n_vocab()), 0.0f);
        renderer render;
        llama_tokens sampled;
        for (int i = 0; i < 12; ++i) {
            if (force && i == 5) {
                it.ask();
                CHECK(it.told.size() <= 1);
            }
            it.running->sample(flat.data());
            it.running->advance(render);
            CHECK(!it.running->failure());
            const auto & tokens = it.running->tokens();
            // Forced text may wait for a character, and then follows the token that completes it.
            const size_t n_after = static_cast<size_t>(it.running->n_fresh()) - 1;
            sampled.push_back(tokens[tokens.size() - 1 - n_after]);
        }
        CHECK_EQ(it.running->reasons(), !force);
        return sampled;
    };
    CHECK(draws(true) == draws(false));
}

TEST(a_grammar_that_allows_the_end_goes_on_after_it) {
    scripted it(with_grammar("root ::= \"<think>\" [a-zA-Z. ]* \"\\n</think>\\n\\n\" [0-9]+"), {-1, "Enough."});
    it.say("<think>");
    it.say("I");
    it.ask();
    CHECK(it.told[0].outcome == force_outcome::applied);
    it.say("I");  // not allowed any more: a digit comes instead
    CHECK(!it.running->failure());
    const std::string text = it.end().text;
    CHECK_EQ(text.substr(0, text.size() - 1), "<think>IEnough.\n</think>\n\n");
    CHECK(std::isdigit(text.back()));
}

TEST(a_grammar_may_allow_the_bare_tag_alone) {
    scripted it(with_grammar("root ::= \"<think>\" [a-zA-Z]* \"</think>\" [0-9]+"), {1, ""});
    it.say("<think>");
    it.say("I");
    CHECK(!it.running->reasons());
    it.say("4");
    CHECK_EQ(it.end().text, "<think>I</think>4");
}

TEST(a_grammar_that_refuses_the_end_is_told_and_nothing_breaks) {
    scripted it(with_grammar("root ::= \"<think>\" \"I\" \"I\" \"</think>\" [0-9]+"), {-1, ""});
    it.say("<think>");
    it.say("I");
    it.ask();
    CHECK(it.told[0].outcome == force_outcome::refused);
    CHECK(it.told[0].message.find("grammar") != std::string::npos);
    it.set_budget(1);  // as soon as the grammar allows it
    CHECK(it.running->reasons());
    it.say("I");
    CHECK(!it.running->reasons());
    it.say("4");
    CHECK(!it.running->failure());
    CHECK_EQ(it.end().text, "<think>II</think>4");
}

TEST(a_grammar_that_refuses_the_message_half_way_is_as_it_was) {
    scripted it(with_grammar("root ::= \"<think>\" [a-zA-Z]* \"</think>\" [0-9]+"), {-1, "No!"});
    it.say("<think>");
    it.say("I");
    it.ask();
    CHECK(it.told[0].outcome == force_outcome::refused);
    it.say("</think>");
    it.say("4");
    CHECK(!it.running->failure());
    CHECK_EQ(it.end().text, "<think>I</think>4");
}

TEST(a_lazy_grammar_triggers_after_a_forced_end_and_not_inside) {
    auto params = greedy();
    params.sampling.grammar = common_grammar(COMMON_GRAMMAR_TYPE_TOOL_CALLS, "root ::= \"<tool_call>\" [0-9]+");
    params.sampling.grammar_lazy = true;
    const auto trigger = tokens_of("<tool_call>");
    CHECK_EQ(trigger.size(), 1u);
    common_grammar_trigger on;
    on.type = COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN;
    on.token = trigger.front();
    params.sampling.grammar_triggers = {on};
    scripted it(params, {2, ""});
    it.say("<think>");
    it.say("<tool_call>");
    it.say("I");
    CHECK(!it.running->reasons());
    it.say("<tool_call>");
    it.say("I");  // not allowed now
    CHECK(!it.running->failure());
    const std::string text = it.end().text;
    CHECK_EQ(text.substr(0, text.size() - 1), "<think><tool_call>I\n</think>\n\n<tool_call>");
    CHECK(std::isdigit(text.back()));
}

// Random answers with ends asked for at random times, against a list of what has to happen.
TEST(ends_at_random_times_do_what_the_naive_model_says) {
    const llama_tokens words = tokens_of("I");
    const llama_token open_tag = tokens_of("<think>").front();
    const llama_token close_tag = tokens_of("</think>").front();
    const auto euro = tokens_of("\xE2\x82\xAC");
    for (uint32_t seed = 0; seed < 40; ++seed) {
        random_source random(seed);
        const bool open = random.one_in(3);
        const int32_t budget = random.one_in(2) ? -1 : static_cast<int32_t>(random.below(6));
        scripted it(greedy(), {budget, random.one_in(2) ? "Enough." : ""}, open);
        llama_tokens wanted;  // of the answer
        bool inside = open;
        bool asked = false;
        int32_t n_used = 0;
        size_t n_cut = 0;  // bytes of a character that are still to come
        const auto force = [&] {
            if (inside && n_cut == 0 && (asked || (budget >= 0 && n_used >= budget))) {
                wanted.insert(wanted.end(), it.forced.begin(), it.forced.end());
                inside = false;
                asked = false;
            }
        };
        force();
        for (int i = 0; i < 40; ++i) {
            if (random.one_in(5)) {
                asked = asked || inside || wanted.empty();
                it.ask();
                force();
                CHECK(it.running->tokens().size() == wanted.size() + 1);
            }
            llama_token token = words.front();
            if (n_cut > 0) {
                token = euro[3 - n_cut--];
            } else if (random.one_in(4)) {
                token = inside ? close_tag : open_tag;
            } else if (random.one_in(4)) {
                token = euro[0];
                n_cut = 2;
            }
            it.say(token);
            wanted.push_back(token);
            if (inside && token == close_tag) {
                inside = false;
                asked = false;
            } else if (!inside && token == open_tag) {
                inside = true;
            } else if (inside) {
                ++n_used;
            }
            force();
            CHECK_EQ(it.running->reasons(), inside);
        }
        const auto & tokens = it.running->tokens();
        CHECK(llama_tokens(tokens.begin() + 1, tokens.end()) == wanted);
        CHECK_EQ(it.running->n_budget_used(), n_used);
        CHECK(it.end().tokens == wanted);
        for (const auto & result : it.told) {
            CHECK(result.outcome != force_outcome::applied ||
                  std::equal(it.forced.begin(), it.forced.end(), wanted.begin() + result.position));
        }
    }
}

// An older slot's prefill waits for the forced text, and that for the other slots' single tokens.
TEST(a_step_carries_the_forced_text_with_the_decode_tokens) {
    scripted forced(greedy(), {1, "Enough."});
    forced.say("<think>");
    forced.say("I");
    scripted decoding(greedy(), {-1, ""});
    decoding.say("I");
    scripted prefilling(greedy(), {-1, ""});
    const auto text_size = static_cast<int32_t>(forced.forced.size());
    std::vector<slot> slots(3);
    slots[0].running = std::move(prefilling.running);
    slots[0].assigned = 1;
    slots[1].running = std::move(forced.running);
    slots[1].assigned = 2;
    slots[1].cached = llama_tokens(slots[1].running->tokens().begin(), slots[1].running->tokens().begin() + 2);
    slots[2].running = std::move(decoding.running);
    slots[2].cached = {slots[2].running->tokens().front()};
    for (const bool alternate : {false, true}) {
        scheduler whole({64, alternate});
        const auto plan = whole.next(slots);
        CHECK_EQ(plan.size(), alternate ? 2u : 3u);
        CHECK(plan[0].target == &slots[1]);
        CHECK_EQ(plan[0].begin, 2);
        CHECK_EQ(plan[0].end, 3 + text_size);
        CHECK(plan[0].wants_logits);
        CHECK(plan[1].target == &slots[2]);
        CHECK(plan[1].wants_logits);
    }
    scheduler small({4, false});
    const auto plan = small.next(slots);
    CHECK_EQ(plan.size(), 2u);
    CHECK_EQ(plan[0].end, 2 + 1 + 2);  // of four tokens, one is the neighbour's
    CHECK(!plan[0].wants_logits);
    CHECK(plan[1].wants_logits);
}
