#include "request.h"

#include "chat_fixture.h"
#include "errors.h"
#include "sampling.h"

using namespace pyllama;
using namespace pyllama_test;

namespace {

const std::string hello = R"("messages":[{"role":"user","content":"hi"}])";

std::string with(const std::string & member) {
    return "{" + hello + "," + member + "}";
}

chat_request parsed(const std::string & member) {
    return parse_chat_request(*qwen3(), with(member));
}

// The field that the error names.
std::string refused(const std::string & body) {
    try {
        prepare(body);
    } catch (const error & e) {
        CHECK(e.kind == error_kind::invalid_request);
        CHECK(!std::string(e.what()).empty());
        return e.param;
    }
    return "(accepted)";
}

std::string repeated(const std::string & text, size_t n) {
    std::string all;
    for (size_t i = 0; i < n; ++i) {
        all += text;
    }
    return all;
}

}  // namespace

TEST(every_sampling_field_arrives) {
    const auto r = parsed(R"("temperature":0.5,"top_k":7,"top_p":0.25,"min_p":0.125,"typical_p":0.5,"top_n_sigma":2,
        "xtc_probability":0.5,"xtc_threshold":0.25,"dynatemp_range":0.5,"dynatemp_exponent":2,"repeat_last_n":9,
        "repeat_penalty":1.5,"presence_penalty":0.5,"frequency_penalty":-0.5,"dry_multiplier":0.5,"dry_base":2,
        "dry_allowed_length":3,"dry_penalty_last_n":11,"mirostat":2,"mirostat_tau":4,"mirostat_eta":0.5,
        "adaptive_target":0.5,"adaptive_decay":0.5,"min_keep":2,"seed":42,"samplers":["top_k","temperature"],
        "dry_sequence_breakers":["x"],"max_tokens":5,"id_slot":1,"cache_prompt":false,"t_max_predict_ms":100,
        "stop":["a","","b"],"stream":true,"stream_options":{"include_usage":true},"logprobs":true,"top_logprobs":3,
        "timings_per_token":true,"return_progress":true,"n_keep":-1,"n_discard":7,"n_cache_reuse":64,"lora":[])");
    CHECK_EQ(r.sampling.temp, 0.5f);
    CHECK_EQ(r.sampling.top_k, 7);
    CHECK_EQ(r.sampling.top_p, 0.25f);
    CHECK_EQ(r.sampling.min_p, 0.125f);
    CHECK_EQ(r.sampling.typ_p, 0.5f);
    CHECK_EQ(r.sampling.top_n_sigma, 2.0f);
    CHECK_EQ(r.sampling.xtc_probability, 0.5f);
    CHECK_EQ(r.sampling.xtc_threshold, 0.25f);
    CHECK_EQ(r.sampling.dynatemp_range, 0.5f);
    CHECK_EQ(r.sampling.dynatemp_exponent, 2.0f);
    CHECK_EQ(r.sampling.penalty_last_n, 9);
    CHECK_EQ(r.sampling.penalty_repeat, 1.5f);
    CHECK_EQ(r.sampling.penalty_present, 0.5f);
    CHECK_EQ(r.sampling.penalty_freq, -0.5f);
    CHECK_EQ(r.sampling.dry_multiplier, 0.5f);
    CHECK_EQ(r.sampling.dry_base, 2.0f);
    CHECK_EQ(r.sampling.dry_allowed_length, 3);
    CHECK_EQ(r.sampling.dry_penalty_last_n, 11);
    CHECK_EQ(r.sampling.mirostat, 2);
    CHECK_EQ(r.sampling.mirostat_tau, 4.0f);
    CHECK_EQ(r.sampling.mirostat_eta, 0.5f);
    CHECK_EQ(r.sampling.adaptive_target, 0.5f);
    CHECK_EQ(r.sampling.adaptive_decay, 0.5f);
    CHECK_EQ(r.sampling.min_keep, 2);
    CHECK_EQ(r.sampling.seed, 42u);
    CHECK(!r.random_seed);
    CHECK_EQ(r.sampling.samplers.size(), 2u);
    CHECK_EQ(r.sampling.dry_sequence_breakers.size(), 1u);
    CHECK_EQ(r.n_predict, 5);
    CHECK_EQ(r.id_slot, 1);
    CHECK(!r.cache_prompt);
    CHECK_EQ(r.t_max_predict_ms, 100);
    CHECK_EQ(r.stop.size(), 2u);
    CHECK(r.stream && r.include_usage);
    CHECK(r.timings_per_token && r.return_progress);
    CHECK_EQ(r.n_logprobs, 3);
    CHECK_EQ(r.n_keep, -1);
    CHECK_EQ(r.n_discard, 7);
    CHECK_EQ(r.n_cache_reuse, 64);
    CHECK(r.lora == nullptr);
}

TEST(a_wrong_list_of_adapters_names_its_field) {
    for (const char * bad : {"7", "{}", "[7]", R"([{"id":0,"scale":1}])", R"([{"scale":1}])"}) {
        try {
            parsed(std::string(R"("lora":)") + bad);
            CHECK(false);
        } catch (const error & refused) {
            CHECK_EQ(refused.param.substr(0, 4), "lora");
        }
    }
}

TEST(defaults_are_the_servers_and_null_is_absent) {
    const auto r =
        parsed(R"("temperature":null,"max_tokens":null,"stop":null,"tools":null,"seed":null,"unknown":{"a":1})");
    CHECK_EQ(r.sampling.temp, qwen3()->params().sampling.temp);
    CHECK_EQ(r.n_predict, -1);
    CHECK(r.random_seed);
    CHECK_EQ(r.n_logprobs, -1);
}

TEST(aliases_of_the_token_limit_have_an_order) {
    CHECK_EQ(parsed(R"("max_completion_tokens":3,"max_tokens":2)").n_predict, 3);
    CHECK_EQ(parsed(R"("n_predict":4,"max_completion_tokens":3)").n_predict, 4);
}

TEST(logit_bias_takes_all_three_forms) {
    CHECK_EQ(parsed(R"("logit_bias":{"15":2.5})").sampling.logit_bias.at(0).token, 15);
    CHECK_EQ(parsed(R"("logit_bias":[[15,-1],[16,false]])").sampling.logit_bias.at(1).bias, -INFINITY);
    CHECK(!parsed(R"("logit_bias":[["hello",1]])").sampling.logit_bias.empty());
}

TEST(a_cache_salt_is_a_short_text) {
    CHECK_EQ(parsed(R"("cache_salt":"tenant-7")").cache_salt, "tenant-7");
    CHECK_EQ(parsed(R"("cache_salt":null)").cache_salt, "");
    for (const std::string wrong : {"\"\"", "7", "[]", "\"a\\u0000b\""}) {
        CHECK_THROWS(error, parsed("\"cache_salt\":" + wrong));
    }
    CHECK_EQ(parsed("\"cache_salt\":\"" + repeated("x", 256) + "\"").cache_salt.size(), 256u);
    CHECK_THROWS(error, parsed("\"cache_salt\":\"" + repeated("x", 257) + "\""));
}

TEST(what_llama_server_clamps_is_clamped) {
    const auto low = parsed(R"("temperature":-1,"top_k":-7,"top_p":-1,"min_p":-1,"mirostat":-1)");
    CHECK_EQ(low.sampling.temp, 0.0f);
    CHECK_EQ(low.sampling.top_k, 0);
    CHECK_EQ(low.sampling.top_p, 0.0f);
    CHECK_EQ(low.sampling.min_p, 0.0f);
    CHECK_EQ(low.sampling.mirostat, 0);
    const auto high = parsed(R"("top_k":1e30,"top_p":1.5,"min_p":2,"mirostat":9)");
    CHECK_EQ(high.sampling.top_k, std::numeric_limits<int32_t>::max());
    CHECK_EQ(high.sampling.top_p, 1.0f);
    CHECK_EQ(high.sampling.min_p, 1.0f);
    CHECK_EQ(high.sampling.mirostat, 2);
}

TEST(samplers_have_llama_commons_names) {
    for (const char * name : {"top_k", "top-k", "topk", "TOP_K", "nucleus", "temp", "typ", "min-p", "xtc", "penalties",
                              "adaptive-p", "infill", "dry", "top-n-sigma", "typ_p", "temperature"}) {
        const auto r = parsed(std::string(R"("samplers":[")") + name + R"("])");
        CHECK(r.sampling.samplers == common_sampler_types_from_names({name}));
    }
    const auto r = parsed(R"("samplers":"edskypmxtia")");
    CHECK(r.sampling.samplers == common_sampler_types_from_chars("edskypmxtia"));
}

TEST(errors_name_the_field) {
    CHECK_EQ(refused("{"), "");
    CHECK_EQ(refused("[]"), "");
    CHECK_EQ(refused("{\"a\":\"\xFF\"}"), "");
    CHECK_EQ(refused("{}"), "messages");
    CHECK_EQ(refused(R"({"messages":[]})"), "messages");
    CHECK_EQ(refused(R"({"messages":"hi"})"), "messages");
    CHECK_EQ(refused(R"({"messages":["hi"]})"), "messages[0]");
    CHECK_EQ(refused(R"({"messages":[{"content":"hi"}]})"), "messages[0].role");
    CHECK_EQ(refused(R"({"messages":[{"role":"alien","content":"hi"}]})"), "messages[0].role");
    CHECK_EQ(refused(R"({"messages":[{"role":"user"}]})"), "messages[0].content");
    CHECK_EQ(refused(R"({"messages":[{"role":"user","content":5}]})"), "messages[0].content");
    CHECK_EQ(refused(R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]})"),
             "messages[0].content[0]");
    CHECK_EQ(refused(with(R"("temperature":"hot")")), "temperature");
    CHECK_EQ(refused(with(R"("max_tokens":-2)")), "max_tokens");
    CHECK_EQ(refused(with(R"("max_tokens":1e30)")), "max_tokens");
    CHECK_EQ(refused(with(R"("max_tokens":1.5)")), "max_tokens");
    CHECK_EQ(refused(with(R"("max_tokens":true)")), "max_tokens");
    CHECK_EQ(refused(with(R"("stream":1)")), "stream");
    CHECK_EQ(refused(with(R"("stream_options":{"include_usage":2})")), "stream_options.include_usage");
    CHECK_EQ(refused(with(R"("n":0)")), "n");
    CHECK_EQ(refused(with(R"("n":-1)")), "n");
    CHECK_EQ(refused(with(R"("n":1.5)")), "n");
    CHECK_EQ(refused(with(R"("n":1e30)")), "n");
    CHECK_EQ(refused(with(R"("n":"two")")), "n");
    CHECK_EQ(refused(with(R"("n":2,"n_cmpl":0)")), "n_cmpl");
    CHECK_EQ(refused(with(R"("repeat_penalty":0)")), "repeat_penalty");
    CHECK_EQ(refused(with(R"("stop":[1])")), "stop[0]");
    CHECK_EQ(refused(with(R"("stop":{})")), "stop");
    CHECK_EQ(refused(with(R"("logit_bias":{"99999999":1})")), "logit_bias");
    CHECK_EQ(refused(with(R"("logit_bias":[[1]])")), "logit_bias");
    CHECK_EQ(refused(with(R"("top_logprobs":3)")), "top_logprobs");
    CHECK_EQ(refused(with(R"("logprobs":true,"top_logprobs":21)")), "top_logprobs");
    CHECK_EQ(refused(with(R"("samplers":["nope"])")), "samplers");
    CHECK_EQ(refused(with(R"("samplers":"k?")")), "samplers");
    CHECK_EQ(refused(with(R"("response_format":{"type":"xml"})")), "response_format.type");
    CHECK_EQ(refused(with(R"("tool_choice":"required")")), "tool_choice");
    CHECK_EQ(refused(with(R"("tools":[{"type":"function"}])")), "tools[0].function");
    CHECK_EQ(refused(with(R"("tools":[{"type":"function","function":{"name":"f","parameters":3}}])")),
             "tools[0].function.parameters");
    CHECK_EQ(refused(with(R"("reasoning_format":"odd")")), "reasoning_format");
    CHECK_EQ(refused(with(R"("chat_template_kwargs":{"enable_thinking":"yes"})")),
             "chat_template_kwargs.enable_thinking");
    CHECK_EQ(refused(with(R"("continue_final_message":true)")), "continue_final_message");
    CHECK_EQ(refused(with(R"("continue_final_message":3)")), "continue_final_message");
}

TEST(grammars_and_schemas_are_compiled_before_anything_is_sent) {
    CHECK_EQ(refused(with(R"("grammar":"root ::= [a-z]+")")), "(accepted)");
    CHECK_EQ(refused(with(R"("grammar":"root ::= nowhere")")), "grammar");
    CHECK_EQ(refused(with(R"("grammar":"other ::= [a-z]+")")), "grammar");
    CHECK_EQ(refused(with(R"("grammar":"root ::= root \"a\"")")), "grammar");
    CHECK_EQ(refused(with("\"grammar\":\"root ::= " + repeated("(", 100000) + "\"")), "grammar");
    CHECK_EQ(refused(with("\"grammar\":\"" + repeated("a ::= b\\n", 20000) + "\"")), "grammar");
    CHECK_EQ(refused(with(R"("response_format":{"type":"json_schema","json_schema":{"schema":{"type":"nonsense"}}})")),
             "response_format.json_schema.schema");
    CHECK_EQ(refused(with(R"("response_format":{"type":"json_object"})")), "(accepted)");
    std::string properties;
    for (int i = 0; i < 3000; ++i) {
        properties += (i > 0 ? ",\"p" : "\"p") + std::to_string(i) + "\":{}";
    }
    CHECK_EQ(refused(with("\"json_schema\":{\"type\":\"object\",\"properties\":{" + properties + "}}")), "json_schema");
}

TEST(deep_nesting_is_refused_without_recursion) {
    CHECK_EQ(refused(with("\"x\":" + repeated("[", 1000000))), "");
    CHECK_EQ(refused("{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"type\":\"function\",\"function\":{"
                     "\"name\":\"f\",\"arguments\":\"" +
                     repeated("[", 1000000) + "\"}}]}]}"),
             "messages[0].tool_calls[0].function.arguments");
}

TEST(mutated_bodies_are_answered_never_crash) {
    const std::string seed = with(R"("tools":[{"type":"function","function":{"name":"f","description":"d","parameters":
        {"type":"object","properties":{"a":{"type":"string","enum":["x","y"]}},"required":["a"]}}}],"tool_choice":"auto",
        "temperature":0.5,"stop":["a"],"logit_bias":{"5":1},"stream":true,"max_tokens":5,"chat_template_kwargs":{"a":[1]})");
    static const char * const parts[] = {"null", "-1", "1e309", "\"\"",    "{}", "[]",
                                         "true", ",",  "\"",    "\\u0000", "[[", "0.5"};
    random_source random(11);
    size_t n_accepted = 0;
    for (int round = 0; round < 1500; ++round) {
        std::string body = seed;
        for (uint32_t n = 1 + random.below(3); n > 0; --n) {
            const size_t at = random.below(static_cast<uint32_t>(body.size()));
            const size_t length = random.below(8);
            body.replace(at, std::min(length, body.size() - at), parts[random.below(12)]);
        }
        try {
            prepare(body);
            ++n_accepted;
        } catch (const error & e) {
            CHECK(e.kind == error_kind::invalid_request || e.kind == error_kind::context_exceeded);
        }
    }
    CHECK(n_accepted > 0);
}
