// Stopped at every possible point, sent back as the client got it, continued: the tokens must be those of the answer
// that was never stopped.
//
// There is no model: the uninterrupted answer is a turn as the template writes it, tokenised. It goes token by token
// through what a generation passes (the hold, the chat parser, the writer), and what came out is sent back. Then
//  - the tokens of the new prompt must begin the uninterrupted tokens: what is left of those, a model says again;
//  - the prompt must know whether it ends inside the reasoning;
//  - the rest of the answer, through the new request's parser, must complete the texts of the first.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <set>

#include "chat_fixture.h"
#include "errors.h"
#include "json_text.h"
#include "request.h"
#include "text_hold.h"
#include "tokenize.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

// Every kind of text: lines, blank lines, characters of two, three and four bytes, signs that could begin a tag.
const std::string reasoning_text =
    "Okay, caf\xC3\xA9 math: 17 + 25.\nFirst, 17 + 20 = 37.\n\n**Then** 37 + 5 = 42 \xF0\x9F\x98\x80. Is 42 < 50? Yes.";
const std::string content_text =
    "The answer is **42**.\n\n- \xE6\x97\xA5\xE6\x9C\xAC: `17 + 25`\n\n```py\nprint(42)\n```\nDone \xF0\x9F\x98\x80!";

// Templates whose answers cannot be continued exactly, and why.
using reasons = std::map<std::string, std::string>;

const reasons cannot_continue = {
    {"GLM-4.6", "its turn begins with a line feed before the tag, which the handler leaves out"},
    {"LFM2-8B-A1B", "it has no thinking; the handler writes a block that its parser does not read"},
    {"LFM2.5-Instruct", "it has no thinking; the handler writes a block that its parser does not read"},
    {"NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "one line feed follows its end tag, and the handler writes two"},
    {"StepFun3.5-Flash", "one line feed follows its end tag, and the handler writes two"},
};

// The same of answers without reasoning.
const reasons cannot_continue_plain = {
    {"Apriel-1.6-15b-Thinker-fixed", "its generation prompt opens the reasoning: it always thinks"},
    {"HuggingFaceTB-SmolLM3-3B", "its parser tells the last line feed of the generation prompt as content"},
    {"MiniMax-M2", "the line feeds around an empty thought, one of the generation prompt's, become one token"},
    {"MiniMax-M3", "it begins with a lone end tag, and the handler writes a start tag before it"},
    {"Qwen-QwQ-32B", "its generation prompt opens the reasoning: it always thinks"},
    {"StepFun3.5-Flash", "the line feeds around an empty thought, one of the generation prompt's, become one token"},
    {"deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "its generation prompt opens the reasoning: it always thinks"},
    {"deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", "its generation prompt opens the reasoning: it always thinks"},
    {"llama-cpp-deepseek-r1", "its generation prompt opens the reasoning: it always thinks"},
};

// Without these the template does not think.
std::string options_of(const std::string & name) {
    return name == "tencent-Hy3" ? R"(,"reasoning_effort":"high")" : "";
}

const std::string not_thinking = R"(,"chat_template_kwargs":{"enable_thinking":false})";

std::vector<std::string> template_names() {
    std::vector<std::string> names;
    for (const auto & file : std::filesystem::directory_iterator(PYLLAMA_LLAMA_CPP_MODELS "/templates")) {
        if (file.path().extension() == ".jinja") {
            names.push_back(file.path().stem().string());
        }
    }
    std::sort(names.begin(), names.end());
    return names;
}

struct texts {
    std::string reasoning;
    std::string content;
};

// What the client of this request gets for these tokens.
texts told(const model & model, prepared_request & request, const llama_token * begin, const llama_token * end,
           finish_reason reason) {
    text_hold hold(request.params.stop);
    collected_frames out;
    const auto pass_on = [&](std::vector<piece> & batch) {
        if (!batch.empty()) {
            request.writer->pieces(0, batch, out);
            batch.clear();
        }
    };
    request.writer->start(out);
    std::vector<piece> batch;
    for (auto token = begin; token != end; ++token) {
        piece next;
        next.token = *token;
        next.text = model.piece(*token, request.params.sampling.preserved_tokens.count(*token) > 0);
        hold.add(std::move(next), batch);
        pass_on(batch);
    }
    hold.flush(batch);
    pass_on(batch);
    generation_result result;
    result.reason = reason;
    request.writer->finish(result, out);
    request.writer->end(out);

    texts sent;
    for (const auto & frame : out.frames) {
        const auto line = common_json::parse(frame);
        if (line.contains("reasoning")) {
            sent.reasoning += line.at("reasoning").get<std::string>();
        }
        if (line.contains("content")) {
            sent.content += line.at("content").get<std::string>();
        }
    }
    return sent;
}

// One conversation of a template, and its whole answer.
class hammer {
  public:
    hammer(std::string name, const std::string & vocab, bool thinking = true)
        : name_(std::move(name)),
          reasoning_(thinking ? reasoning_text : ""),
          options_(thinking ? options_of(name_) : not_thinking) {
        model_ = load_with_template(name_, vocab);
        auto inputs = parse_chat_request(*model_, body("")).inputs;
        prompt_ = common_chat_templates_apply(model_->templates(), inputs);
    }

    bool thinks() const { return prompt_.supports_thinking; }

    bool writes_plain_turns() const {
        const std::string wanted = prompt_.prompt + content_text;
        return conversation().compare(0, wanted.size(), wanted) == 0;
    }

    // Why the answer cannot be continued; empty when it can.
    std::string strike() {
        std::string failure = write_answer();
        failure = failure.empty() ? check_all() : failure;
        return failure.empty() ? failure : name_ + ": " + failure;
    }

  private:
    std::string body(const std::string & last) const {
        return R"({"messages":[{"role":"user","content":"What is 17 + 25?"})" + last + "]" + options_ + "}";
    }

    prepared_request prepare_body(const std::string & last) const {
        return prepare(body(last), dialect::deltas, model_, 1 << 20);
    }

    // The whole conversation as the template writes it. Where it shows no reasoning of the past, as its handler
    // rebuilds it; where that closes what the prompt has opened in another way, as a model goes on.
    std::string conversation() const {
        auto inputs = parse_chat_request(*model_, body("")).inputs;
        common_chat_msg answer;
        answer.role = "assistant";
        answer.reasoning_content = reasoning_;
        answer.content = content_text;
        inputs.messages.push_back(answer);
        inputs.add_generation_prompt = false;
        for (const auto mode : {COMMON_CHAT_CONTINUATION_NONE, COMMON_CHAT_CONTINUATION_CONTENT}) {
            inputs.continue_final_message = mode;
            const std::string text = common_chat_templates_apply(model_->templates(), inputs).prompt;
            const size_t end = text.rfind(content_text);
            if (text.compare(0, prompt_.prompt.size(), prompt_.prompt) == 0 && end != std::string::npos &&
                text.find(reasoning_, prompt_.prompt.size()) != std::string::npos) {
                return text.substr(0, end + content_text.size());
            }
        }
        if (prompt_.thinking_end_tags.empty() || reasoning_.empty()) {
            return {};
        }
        return prompt_.prompt + reasoning_ + "\n" + prompt_.thinking_end_tags.front() + "\n\n" + content_text;
    }

    std::string write_answer() {
        text_ = conversation();
        if (text_.empty()) {
            return "its turns do not begin with its generation prompt";
        }
        auto request = prepare_body("");
        n_prompt_ = request.tokens.size();
        tokens_ = tokenize(model_->vocab(), text_, true, true, "");
        if (tokens_.size() <= n_prompt_ || !std::equal(request.tokens.begin(), request.tokens.end(), tokens_.begin())) {
            return "the tokens of its turn do not begin with those of its generation prompt";
        }
        whole_ = told(*model_, request, answer_begin(), answer_end(), finish_reason::stop);
        return {};
    }

    const llama_token * answer_begin() const { return tokens_.data() + n_prompt_; }
    const llama_token * answer_end() const { return tokens_.data() + tokens_.size(); }

    std::string check_all() {
        for (const llama_token * cut = answer_begin(); cut <= answer_end(); ++cut) {
            const std::string failure = check(cut);
            if (!failure.empty()) {
                return "stopped after " + std::to_string(cut - answer_begin()) + " tokens: " + failure;
            }
        }
        return {};
    }

    std::string check(const llama_token * cut) {
        auto first = prepare_body("");
        const texts before = told(*model_, first, answer_begin(), cut, finish_reason::length);
        std::string last = R"(,{"role":"assistant","content":)" + json_quoted(before.content);
        if (!before.reasoning.empty()) {
            last += R"(,"reasoning_content":)" + json_quoted(before.reasoning);
        }
        auto second = prepare_body(last + "}");

        const size_t n_kept = second.tokens.size();
        if (n_kept < n_prompt_ || tokens_.data() + n_kept > cut ||
            !std::equal(second.tokens.begin(), second.tokens.end(), tokens_.begin())) {
            const auto differs =
                std::mismatch(second.tokens.begin(), second.tokens.end(), tokens_.begin(), tokens_.end());
            return "the new prompt goes on with \"" + text_of(differs.first, second.tokens.end()) + "\" instead of \"" +
                   text_of(differs.second, tokens_.end()) + "\"";
        }
        if (second.params.reasoning.open != is_open_after(n_kept)) {
            return second.params.reasoning.open ? "the reasoning counts as open" : "the reasoning counts as closed";
        }
        const texts after = told(*model_, second, tokens_.data() + n_kept, answer_end(), finish_reason::stop);
        if (before.reasoning + after.reasoning != whole_.reasoning && !ends_in_tag(before, after)) {
            return "the reasoning becomes \"" + before.reasoning + "|" + after.reasoning + "\"";
        }
        if (before.content + after.content != whole_.content) {
            return "the content becomes \"" + before.content + "|" + after.content + "\"";
        }
        return {};
    }

    // An end tag that was cut is told as text of the reasoning, since it could have been that.
    bool ends_in_tag(const texts & before, const texts & after) const {
        return before.reasoning.size() > whole_.reasoning.size() &&
               before.reasoning.compare(0, whole_.reasoning.size(), whole_.reasoning) == 0 &&
               text_.find(before.reasoning) != std::string::npos && after.reasoning.empty();
    }

    bool is_open_after(size_t n_tokens) const {
        const std::string text = text_of(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(n_tokens));
        const std::string & start = prompt_.thinking_start_tag;
        const size_t opened = text.find(start, prompt_.prompt.size() - prompt_.generation_prompt.size());
        const auto & ends = prompt_.thinking_end_tags;
        return !start.empty() && opened != std::string::npos && std::none_of(ends.begin(), ends.end(), [&](auto & end) {
            return text.find(end, opened + start.size()) != std::string::npos;
        });
    }

    template <typename Iterator>
    std::string text_of(Iterator begin, Iterator end) const {
        std::string text;
        for (auto token = begin; token != end; ++token) {
            text += model_->piece(*token, true);
        }
        return text;
    }

    std::string name_;
    std::string reasoning_;
    std::string options_;
    std::shared_ptr<model> model_;
    common_chat_params prompt_;
    std::string text_;
    std::vector<llama_token> tokens_;
    size_t n_prompt_ = 0;
    texts whole_;
};

std::string refused(const std::string & body) {
    try {
        prepare(body);
    } catch (const error & e) {
        CHECK(e.kind == error_kind::invalid_request);
        return e.param;
    }
    return "";
}

std::string prompt_text(const std::string & body, const std::shared_ptr<model> & model = qwen3()) {
    std::string text;
    for (const llama_token token : prepare(body, dialect::deltas, model).tokens) {
        text += model->piece(token, true);
    }
    return text;
}

const std::string user = R"({"messages":[{"role":"user","content":"hi"},)";
const std::string hi = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n";

// Stops the answers of all templates that `is_meant`. The vocabulary has few merges, so that they are cut between
// nearly all characters, in tags, and in characters.
template <typename Meant>
void strike_all(bool thinking, const reasons & cannot, size_t n_least, Meant is_meant) {
    size_t n_tried = 0;
    std::string wrong;
    std::set<std::string> expected;
    for (const auto & name : template_names()) {
        hammer one(name, PYLLAMA_DEMO_GGUF, thinking);
        if (!is_meant(one)) {
            continue;
        }
        ++n_tried;
        const std::string failure = one.strike();
        if (cannot.count(name) == 0) {
            wrong += failure.empty() ? "" : failure + "\n";
        } else {
            expected.insert(name);
            wrong += failure.empty() ? name + " can be continued now: take it from the table\n" : "";
        }
    }
    std::fputs(wrong.c_str(), stdout);
    CHECK(wrong.empty());
    CHECK_EQ(expected.size(), cannot.size());
    CHECK(n_tried >= n_least);
}

}  // namespace

TEST(every_template_that_thinks_continues_what_was_stopped_anywhere) {
    strike_all(true, cannot_continue, 40, [](const hammer & one) { return one.thinks(); });
}

// Where a template writes a turn without reasoning, wrapped in a channel or not, no handler may add a reasoning block.
TEST(every_template_of_plain_turns_continues_them) {
    strike_all(false, cannot_continue_plain, 50,
               [](const hammer & one) { return one.thinks() || one.writes_plain_turns(); });
}

TEST(a_vocabulary_of_words_makes_no_difference) {
    for (const char * name : {"Qwen-Qwen3-0.6B", "Qwen3.5-4B", "Qwen-QwQ-32B", "openbmb-MiniCPM5-1B"}) {
        CHECK_EQ(hammer(name, PYLLAMA_LLAMA_CPP_MODELS "/ggml-vocab-qwen35.gguf").strike(), "");
    }
}

TEST(nothing_said_yet_is_the_generation_prompt) {
    CHECK_EQ(prompt_text(user + R"({"role":"assistant","content":""}]})"), hi);
    CHECK_EQ(prompt_text(user + R"({"role":"assistant","content":null}],"continue_final_message":true})"), hi);
    CHECK_EQ(refused(R"({"messages":[{"role":"assistant","content":""}]})"), "messages");
}

// LFM2's handler would write an empty reasoning block, which the model has never seen.
TEST(a_plain_turn_stays_plain) {
    const auto lfm2 = load_with_template("LFM2-8B-A1B", PYLLAMA_DEMO_GGUF);
    const std::string body = user + R"({"role":"assistant","content":"Yes "}]})";
    const std::string text = prompt_text(body, lfm2);
    CHECK_EQ(text.substr(text.size() - 35), "im_end|>\n<|im_start|>assistant\nYes ");
    auto request = prepare(body, dialect::deltas, lfm2);
    const auto tokens = tokenize(lfm2->vocab(), "it is", false, true, "");
    CHECK_EQ(told(*lfm2, request, tokens.data(), tokens.data() + tokens.size(), finish_reason::stop).content, "it is");
}

// A channel or a recipient opens the content, with or without a thought before it.
TEST(wrapped_content_goes_on_where_it_was) {
    const auto ends_with = [](const std::string & text, const std::string & tail) {
        return text.size() > tail.size() && text.compare(text.size() - tail.size(), tail.size(), tail) == 0;
    };
    const std::string plain = user + R"({"role":"assistant","content":"Yes"}]})";
    const std::string thought = user + R"({"role":"assistant","reasoning_content":"so","content":"Yes"}]})";
    const auto gpt_oss = load_with_template("openai-gpt-oss-120b");
    CHECK(ends_with(prompt_text(plain, gpt_oss), "<|end|><|start|>assistant<|channel|>final<|message|>Yes"));
    CHECK(ends_with(prompt_text(thought, gpt_oss),
                    "<|start|>assistant<|channel|>analysis<|message|>so<|end|>"
                    "<|start|>assistant<|channel|>final<|message|>Yes"));
    const auto muse = load_with_template("muse-glimmer");
    CHECK(ends_with(prompt_text(plain, muse), "<|start|>assistant to=user<|message|>Yes"));
    CHECK(prompt_text(plain, muse).find("to=self<|message|>") == std::string::npos);
    for (const auto & model : {gpt_oss, muse}) {
        for (const bool echo : {false, true}) {
            auto request =
                prepare(plain.substr(0, plain.size() - 1) + (echo ? R"(,"echo":true})" : "}"), dialect::deltas, model);
            const auto tokens = tokenize(model->vocab(), ", it is", false, true, "");
            const texts sent = told(*model, request, tokens.data(), tokens.data() + tokens.size(), finish_reason::stop);
            CHECK_EQ(sent.content, echo ? "Yes, it is" : ", it is");
            CHECK_EQ(sent.reasoning, "");
        }
    }
}

TEST(the_text_to_continue_can_be_named) {
    const std::string both = user + R"({"role":"assistant","reasoning_content":"so","content":"Yes"}])";
    const std::string content = hi + "<think>\nso\n</think>\n\nYes";
    CHECK_EQ(prompt_text(both + "}"), content);
    CHECK_EQ(prompt_text(both + R"(,"continue_final_message":"content"})"), content);
    CHECK_EQ(prompt_text(both + R"(,"continue_final_message":"reasoning_content"})"), hi + "<think>\nso");
    const std::string reasoning = user + R"({"role":"assistant","reasoning_content":"so"}])";
    CHECK_EQ(prompt_text(reasoning + "}"), hi + "<think>\nso");
    CHECK_EQ(prompt_text(reasoning + R"(,"continue_final_message":"content"})"), hi + "<think>\nso\n</think>\n\n");
}

TEST(continuing_can_be_declined) {
    const std::string messages = user + R"({"role":"assistant","content":"Yes"}])";
    const std::string closed = "Yes<|im_end|>\n<|im_start|>assistant\n";
    const std::string text = prompt_text(messages + R"(,"continue_final_message":false})");
    CHECK(text.size() > closed.size());
    CHECK_EQ(text.substr(text.size() - closed.size()), closed);
}

TEST(the_echo_repeats_both_texts) {
    const std::string body = user + R"({"role":"assistant","reasoning_content":"so\n","content":"Yes"}],"echo":)";
    for (const bool echo : {false, true}) {
        auto request = prepare(body + (echo ? "true}" : "false}"), dialect::deltas);
        const auto tokens = tokenize(qwen3()->vocab(), ", it is", false, true, "");
        const texts sent = told(*qwen3(), request, tokens.data(), tokens.data() + tokens.size(), finish_reason::stop);
        CHECK_EQ(sent.reasoning, echo ? "so\n" : "");
        CHECK_EQ(sent.content, echo ? "Yes, it is" : ", it is");
    }
}

TEST(tags_in_the_clients_texts_open_and_close_nothing) {
    const auto open = [](const std::string & message) {
        return prepare(user + R"({"role":"assistant",)" + message + "}]}").params.reasoning.open;
    };
    CHECK(open(R"("reasoning_content":"the </think> tag")"));
    CHECK(!open(R"("content":"write <think> here")"));
    CHECK(!open(R"("reasoning_content":"a <think> b","content":"write <think> here")"));
}

TEST(what_contradicts_is_refused) {
    const std::string tail = R"({"role":"assistant","content":"so"})";
    const std::string calls =
        R"({"role":"assistant","tool_calls":[{"type":"function","function":{"name":"f","arguments":"{}"}}]})";
    CHECK_EQ(refused(user + tail + "]}"), "");
    CHECK_EQ(refused(user + tail + "," + tail + "]}"), "messages[2]");
    CHECK_EQ(refused(user + calls + "]}"), "messages[1].tool_calls");
    CHECK_EQ(refused(user + calls + R"(],"continue_final_message":true})"), "messages[1].tool_calls");
    CHECK_EQ(refused(user + tail + R"(],"continue_final_message":true,"add_generation_prompt":true})"),
             "add_generation_prompt");
    for (const char * bad : {"3", R"("reasoning")", "[]", "{}"}) {
        CHECK_EQ(refused(user + tail + R"(],"continue_final_message":)" + bad + "}"), "continue_final_message");
    }
    CHECK_EQ(refused(R"({"messages":[{"role":"user","content":"hi"}],"continue_final_message":"content"})"),
             "continue_final_message");
}
