// Long text without a break, for every vocabulary of the vendored tree: it used to end the process.
#include "tokenize.h"

#include <filesystem>
#include <map>

#include "chat_fixture.h"
#include "errors.h"
#include "thread.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

const std::map<std::string, std::shared_ptr<model>> & vocabularies() {
    static const auto loaded = [] {
        std::map<std::string, std::shared_ptr<model>> all;
        for (const auto & entry : std::filesystem::directory_iterator(PYLLAMA_LLAMA_CPP_MODELS)) {
            if (entry.path().extension() == ".gguf") {
                common_params params;
                params.model.path = entry.path().string();
                all[entry.path().stem().string()] = model::load_vocab(params);
            }
        }
        return all;
    }();
    return loaded;
}

std::string repeat(const std::string & unit, size_t n) {
    std::string text;
    text.reserve(unit.size() * n);
    for (size_t i = 0; i < n; ++i) {
        text += unit;
    }
    return text;
}

// As a request's thread has it, whatever the stack of this process's main thread.
void on_ordinary_stack(const std::function<void()> & body) {
    std::string failure;
    thread_options options;
    options.name = "ordinary";
    options.stack_bytes = size_t{8} << 20;
    named_thread thread(options, [&] {
        try {
            body();
        } catch (const std::exception & e) {
            failure = e.what();
        }
    });
    thread.join();
    CHECK_EQ(failure, "");
}

std::string chat_body(const std::string & text, const std::string & rest) {
    return R"({"messages":[{"role":"user","content":"a"},{"role":"assistant","content":")" + text + R"("}])" + rest +
           "}";
}

}  // namespace

TEST(unbroken_text_is_measured_in_characters) {
    CHECK_EQ(longest_unbroken(""), 0u);
    CHECK_EQ(longest_unbroken("abc"), 3u);
    CHECK_EQ(longest_unbroken("abc def\nab"), 8u);               // a line, and the white space in it
    CHECK_EQ(longest_unbroken("a\n\n\n\nb"), 5u);                // four line feeds, one letter
    CHECK_EQ(longest_unbroken("\xe4\xb8\xad\xe4\xb8\xad"), 4u);  // as letters, or as white space
}

TEST(short_and_long_text_give_the_same_tokens_as_llama_cpp) {
    const auto & loaded = vocabularies().at("ggml-vocab-qwen2");
    const std::string text = repeat("Two words, 12 + 30 = 42! \xe4\xbd\xa0\xe5\xa5\xbd ", 500);
    CHECK(longest_unbroken(text) > tokenize_limits::n_on_caller);
    for (const std::string & each : {text, text.substr(0, 50), std::string()}) {
        CHECK(tokenize(loaded->vocab(), each, true, true, "") == common_tokenize(loaded->vocab(), each, true, true));
    }
}

TEST(long_runs_of_every_class_are_tokenised_by_every_vocabulary) {
    constexpr size_t n = 60000;  // twice what an ordinary stack takes
    for (const auto & [name, loaded] : vocabularies()) {
        for (const char * unit : {"a", "7", "!", " ", "\n", "\t", "\xe4\xb8\xad", "\xc2\xa0", "\xf0\x9f\x98\x80"}) {
            const std::string text = repeat(unit, n);
            on_ordinary_stack([&, name = name, vocab = loaded->vocab()] {
                const llama_tokens tokens = tokenize(vocab, text, false, true, "messages");
                // Other tokenizers may drop white space.
                if (tokens.empty() && llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_BPE) {
                    throw std::runtime_error(name + " gives no tokens for " + unit);
                }
            });
        }
    }
}

TEST(the_longest_text_that_is_accepted_fits_its_stack) {
    const auto & loaded = vocabularies().at("ggml-vocab-deepseek-llm");
    const std::string text = repeat("a", tokenize_limits::n_unbroken);
    on_ordinary_stack([&] { static_cast<void>(tokenize(loaded->vocab(), text, false, true, "")); });
}

TEST(longer_text_without_a_break_is_refused_and_its_field_named) {
    const std::string text = repeat("a", tokenize_limits::n_unbroken + 1);
    try {
        static_cast<void>(tokenize(vocabularies().at("ggml-vocab-aquila")->vocab(), text, true, true, "messages"));
        CHECK(false);
    } catch (const error & e) {
        CHECK(e.kind == error_kind::invalid_request);
        CHECK_EQ(e.param, "messages");
        CHECK(std::string(e.what()).find("1048577 characters") != std::string::npos);
    }
    // SentencePiece needs no stack for it.
    CHECK(!tokenize(vocabularies().at("ggml-vocab-llama-spm")->vocab(), text, true, true, "").empty());
}

TEST(a_continued_message_is_parsed_on_the_stack_it_needs) {
    common_params params;
    params.model.path = PYLLAMA_LLAMA_CPP_MODELS "/ggml-vocab-deepseek-coder.gguf";
    params.chat_template = read_text(PYLLAMA_LLAMA_CPP_MODELS "/templates/Qwen-Qwen3-0.6B.jinja");
    const auto loaded = model::load_vocab(params);
    const std::string long_run = repeat("a", 60000);
    on_ordinary_stack([&] {
        const auto prepared = prepare(chat_body(long_run, ""), dialect::openai, loaded, 1 << 20);
        if (prepared.tokens.size() < 1000) {
            throw std::runtime_error("too few tokens");
        }
    });
    const std::string too_long = repeat("a", tokenize_limits::n_unbroken + 1);
    try {
        prepare(chat_body(too_long, ""), dialect::openai, loaded, 1 << 24);
        CHECK(false);
    } catch (const error & e) {
        CHECK_EQ(e.param, "messages[1].content");
    }
}

TEST(other_client_text_is_guarded_too) {
    const std::string text = repeat("a", tokenize_limits::n_unbroken + 1);
    const std::string head = R"({"messages":[{"role":"user","content":"a"}],)";
    try {
        prepare(head + R"("logit_bias":[[")" + text + R"(",1]]})");
        CHECK(false);
    } catch (const error & e) {
        CHECK_EQ(e.param, "logit_bias");
    }
    try {
        prepare(head + R"("reasoning_budget_tokens":1,"reasoning_budget_message":")" + text + R"("})");
        CHECK(false);
    } catch (const error & e) {
        CHECK_EQ(e.param, "reasoning_budget_message");
    }
}
