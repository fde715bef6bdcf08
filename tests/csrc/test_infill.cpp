#include "infill.h"

#include "chat_fixture.h"
#include "errors.h"
#include "tokenize.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

std::shared_ptr<model> load(const std::string & name, int n_batch, bool suffix_first) {
    common_params params;
    params.model.path = PYLLAMA_LLAMA_CPP_MODELS "/ggml-vocab-" + name + ".gguf";
    params.n_batch = n_batch;
    params.n_predict = 8;
    params.spm_infill = suffix_first;
    return model::load_vocab(params);
}

std::string text(const model & source, const llama_tokens & tokens) {
    std::string all;
    for (const llama_token token : tokens) {
        all += source.piece(token, true);
    }
    return all;
}

std::string fill(const model & source, const std::string & body, int n_ctx = 4096) {
    return text(source, infill_prompt(source, common_json::parse(body), n_ctx));
}

std::string refused(const std::string & body) {
    static const auto source = load("starcoder", 256, false);
    try {
        infill_prompt(*source, common_json::parse(body), 4096);
    } catch (const error & reason) {
        CHECK(reason.kind == error_kind::invalid_request);
        return reason.param;
    }
    return "-";
}

const std::string plain = R"({"input_prefix":"int a","input_suffix":"; return a;","prompt":" = "})";

}  // namespace

TEST(prefix_and_suffix_stand_between_markers) {
    const auto source = load("starcoder", 256, false);
    CHECK_EQ(fill(*source, plain), "<fim_prefix>int a = <fim_suffix>; return a;<fim_middle>");
    CHECK_EQ(fill(*load("starcoder", 256, true), plain), "<fim_suffix>; return a;<fim_prefix>int a = <fim_middle>");
}

TEST(other_files_come_first) {
    const auto source = load("starcoder", 256, false);
    const std::string body =
        R"({"input_prefix":"p","input_suffix":"s","input_extra":[{"filename":"a.h","text":"int f();"},{"text":"x"}]})";
    const std::string found = fill(*source, body);
    CHECK(found.find("int f();") < found.find("<fim_prefix>p"));
    CHECK(found.find("x") != std::string::npos);
    // No room in the context but for the batch around the cursor.
    CHECK_EQ(fill(*source, body, 256 + 16), "<fim_prefix>p<fim_suffix>s<fim_middle>");
}

TEST(what_is_near_the_cursor_is_kept) {
    const auto source = load("starcoder", 32, false);
    std::string before;
    std::string behind;
    for (int i = 0; i < 200; ++i) {
        before += " b" + std::to_string(i);
        behind += " e" + std::to_string(i);
    }
    common_json body = {{"input_prefix", before}, {"input_suffix", behind}};
    const llama_tokens tokens = infill_prompt(*source, body, 4096);
    CHECK_EQ(tokens.size(), size_t{24 + 6 + 3});
    const std::string found = text(*source, tokens);
    CHECK(found.find("b199<fim_suffix> e0") != std::string::npos);
}

TEST(infill_errors_name_the_field) {
    CHECK_EQ(refused("{}"), "input_prefix");
    CHECK_EQ(refused(R"({"input_prefix":"a"})"), "input_suffix");
    CHECK_EQ(refused(R"({"input_prefix":5,"input_suffix":"b"})"), "input_prefix");
    CHECK_EQ(refused(R"({"input_prefix":"a","input_suffix":"b","prompt":[1]})"), "prompt");
    CHECK_EQ(refused(R"({"input_prefix":"a","input_suffix":"b","input_extra":{}})"), "input_extra");
    CHECK_EQ(refused(R"({"input_prefix":"a","input_suffix":"b","input_extra":[{}]})"), "input_extra[0].text");
    CHECK_EQ(refused(R"({"input_prefix":"a","input_suffix":"b","input_extra":[{"text":1}]})"), "input_extra[0].text");
    CHECK_EQ(refused(R"({"input_prefix":"a","input_suffix":"b","input_extra":[{"text":"t","filename":1}]})"),
             "input_extra[0].filename");
}

TEST(a_model_without_markers_says_so) {
    const auto source = load("llama-spm", 256, false);
    try {
        infill_prompt(*source, common_json::parse(plain), 4096);
        CHECK(false);
    } catch (const error & reason) {
        CHECK(reason.kind == error_kind::unsupported);
    }
}
