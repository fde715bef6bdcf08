#include "prompt.h"

#include "chat_fixture.h"
#include "errors.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

const std::string hello = R"("messages":[{"role":"user","content":"hi"}])";

std::string text_of(const prepared_request & request) {
    std::string text;
    for (const llama_token token : request.tokens) {
        text += qwen3()->piece(token, true);
    }
    return text;
}

}  // namespace

TEST(the_prompt_is_the_rendered_template) {
    const auto prepared = prepare("{" + hello + "}");
    CHECK_EQ(text_of(prepared), "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
    CHECK_EQ(prepared.id.substr(0, 9), "chatcmpl-");
    CHECK_EQ(prepared.id.size(), 41u);
    CHECK(prepare("{" + hello + "}").id != prepared.id);
}

TEST(reasoning_tags_and_their_state_are_known) {
    const auto thinking = prepare("{" + hello + "}");
    CHECK_EQ(thinking.params.reasoning.start.size(), 1u);
    CHECK_EQ(thinking.params.reasoning.end.size(), 1u);
    CHECK(!thinking.params.reasoning.open);
    const auto silent = prepare("{" + hello + R"(,"reasoning_effort":"none"})");
    CHECK(text_of(silent).find("<think>\n\n</think>") != std::string::npos);
    CHECK(!silent.params.reasoning.open);
    const auto open = prepare(R"({"messages":[{"role":"user","content":"hi"},
        {"role":"assistant","reasoning_content":"so far"}],"continue_final_message":true})");
    CHECK(open.params.reasoning.open);
    CHECK(text_of(open).find("so far") != std::string::npos);
}

TEST(a_forced_end_has_the_template_s_first_end_tag) {
    const auto forced = [](const std::string & name, const std::string & fields = "") {
        const auto loaded = load_with_template(name);
        const auto prepared = prepare("{" + hello + fields + "}", dialect::openai, loaded);
        std::string text;
        for (const llama_token token : prepared.params.reasoning.forced) {
            text += loaded->piece(token, true);
        }
        return text;
    };
    // In this vocabulary the tags are no tokens, and the white space around them would merge into their last one: the
    // bare tag it is. Where they are tokens, see the tests with the demo model.
    CHECK_EQ(forced("Qwen-Qwen3-0.6B"), "</think>");
    CHECK_EQ(forced("Qwen-Qwen3-0.6B", R"(,"reasoning_budget_message":"Enough.")"), "Enough.</think>");
    CHECK(forced("deepseek-ai-DeepSeek-V3.1").find("</think>") != std::string::npos);
    CHECK(forced("openai-gpt-oss-120b").find("<|end|>") != std::string::npos);
    CHECK(forced("mistralai-Ministral-3-14B-Reasoning-2512").find("[/THINK]") != std::string::npos);
    CHECK_EQ(forced("meta-llama-Llama-3.1-8B-Instruct"), "");
}

TEST(a_client_s_message_never_becomes_a_control_token) {
    const auto forced = prepare("{" + hello + R"(,"reasoning_budget_message":"<|im_end|>"})").params.reasoning.forced;
    for (const llama_token token : forced) {
        CHECK(!llama_vocab_is_eog(qwen3()->vocab(), token));
    }
    CHECK(forced.size() > 4);
}

TEST(a_client_s_tags_are_for_templates_without) {
    const std::string tags = R"(,"reasoning_budget_tokens":3,"reasoning_budget_start_tag":"[think]",
        "reasoning_budget_end_tags":["[done]","[over]"])";
    const auto plain = load_with_template("meta-llama-Llama-3.1-8B-Instruct");
    const auto & reasoning = prepare("{" + hello + tags + "}", dialect::openai, plain).params.reasoning;
    CHECK_EQ(reasoning.start.size(), 1u);
    CHECK_EQ(reasoning.end.size(), 2u);
    CHECK_EQ(reasoning.budget, 3);
    CHECK(reasoning.forced == reasoning.end[0]);
    CHECK_EQ(prepare("{" + hello + tags + "}").params.reasoning.end.size(), 1u);
    const std::string one = R"(,"reasoning_budget_end_tag":"[done]")";
    CHECK_EQ(prepare("{" + hello + one + "}", dialect::openai, plain).params.reasoning.end.size(), 1u);
    const std::string ending = R"(,"reasoning_budget_end_tags":["<|im_end|>"])";
    CHECK(CHECK_THROWS(error, prepare("{" + hello + ending + "}", dialect::openai, plain))
              .find("reasoning_budget_end_tags") != std::string::npos);
}

TEST(a_raw_prompt_may_end_inside_a_block_of_the_client_s_own) {
    const auto open = [](const std::string & prompt) {
        const std::string body =
            R"({"prompt":")" + prompt + R"(","reasoning_budget_start_tag":"<a>","reasoning_budget_end_tags":["</a>"]})";
        return prepare_completion(qwen3(), body, dialect::openai, {4096}).params.reasoning.open;
    };
    CHECK(open("hi <a> so"));
    CHECK(!open("hi <a> so</a> then"));
    CHECK(!open("hi"));
}

TEST(a_prompt_beyond_the_context_gives_both_counts) {
    for (const size_t n : {size_t{3000}, size_t{3000000}}) {
        std::string words;
        for (size_t i = 0; i < n; i += 2) {
            words += "a ";
        }
        try {
            prepare(R"({"messages":[{"role":"user","content":")" + words + "\"}]}", dialect::openai, qwen3(), 64);
            CHECK(false);
        } catch (const error & e) {
            CHECK(e.kind == error_kind::context_exceeded);
            CHECK_EQ(e.n_ctx, 64);
            CHECK(e.n_prompt_tokens >= 64);
        }
    }
}

TEST(seeds_are_resolved_here) {
    CHECK_EQ(prepare("{" + hello + R"(,"seed":7})").params.sampling.seed, 7u);
    const auto first = prepare("{" + hello + R"(,"seed":-1})").params.sampling.seed;
    const auto second = prepare("{" + hello + "}").params.sampling.seed;
    CHECK(first != second);  // one in 2^32
}

TEST(tools_give_a_lazy_grammar_and_required_ones_a_strict_one) {
    const std::string tools = R"(,"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object",
        "properties":{"a":{"type":"string"}}}}}])";
    const auto automatic = prepare("{" + hello + tools + "}");
    CHECK(!automatic.params.sampling.grammar.empty());
    CHECK(automatic.params.sampling.grammar_lazy);
    CHECK(!automatic.params.sampling.grammar_triggers.empty());
    const auto named = prepare("{" + hello + tools + R"(,"tool_choice":{"type":"function","function":{"name":"f"}}})");
    CHECK(!named.params.sampling.grammar_lazy);
    CHECK(prepare("{" + hello + tools + R"(,"tool_choice":"none"})").params.sampling.grammar.empty());
    const auto user = prepare("{" + hello + R"(,"grammar":"root ::= \"x\""})");
    CHECK(user.params.sampling.grammar.type == COMMON_GRAMMAR_TYPE_USER);
}

TEST(many_templates_take_many_conversations) {
    static const char * const names[] = {"Qwen-Qwen3-0.6B",
                                         "Qwen-Qwen2.5-7B-Instruct",
                                         "Qwen-QwQ-32B",
                                         "meta-llama-Llama-3.1-8B-Instruct",
                                         "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
                                         "openai-gpt-oss-120b",
                                         "GLM-4.6",
                                         "Kimi-K2-Thinking",
                                         "ibm-granite-granite-4.0",
                                         "Qwen3-Coder"};
    static const char * const bodies[] = {
        R"({"messages":[{"role":"user","content":"hi"}]})",
        R"({"messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"hi"}]}]})",
        R"({"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"yo"},{"role":"user","content":"?"}]})",
        R"({"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{"name":"f",
            "description":"d","parameters":{"type":"object","properties":{"a":{"type":"string"}}}}}]})",
        R"({"messages":[{"role":"user","content":"hi"}],"response_format":{"type":"json_object"}})",
    };
    for (const char * name : names) {
        const auto loaded = load_with_template(name);
        for (const char * body : bodies) {
            const auto prepared = prepare(body, dialect::openai, loaded, 1 << 20);
            CHECK(!prepared.tokens.empty());
            CHECK(prepared.writer != nullptr);
        }
    }
}

TEST(a_bad_model_file_says_why) {
    const auto refused = [](const std::string & path) {
        common_params params;
        params.model.path = path;
        return CHECK_THROWS(error, model::load(params));
    };
    CHECK(refused("/nonexistent.gguf").find("does not exist") != std::string::npos);
    CHECK(refused(PYLLAMA_LLAMA_CPP_MODELS).find("directory") != std::string::npos);
    CHECK(refused(PYLLAMA_LLAMA_CPP_MODELS "/templates/README.md").find("not a GGUF") != std::string::npos);
    CHECK(refused(PYLLAMA_LLAMA_CPP_MODELS "/ggml-vocab-qwen2.gguf").find("no weights") != std::string::npos);
}
