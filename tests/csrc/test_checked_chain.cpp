// What would end the process, or leave an array, is an error; what is fast changes no token.
#include "checked_chain.h"

#include <limits>
#include <string>
#include <vector>

#include "backends.h"
#include "check.h"
#include "errors.h"

using namespace pyllama;
using pyllama_test::random_source;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

const llama_vocab * vocab() {
    static const llama_model_ptr model = [] {
        load_backends();
        auto params = llama_model_default_params();
        params.vocab_only = true;
        return llama_model_ptr(llama_model_load_from_file(PYLLAMA_VOCAB_GGUF, params));
    }();
    return llama_model_get_vocab(model.get());
}

llama_token token_of(const std::string & text) {
    llama_token token = -1;
    CHECK_EQ(llama_tokenize(vocab(), text.data(), static_cast<int32_t>(text.size()), &token, 1, false, true), 1);
    return token;
}

std::vector<float> random_row(random_source & random, size_t n) {
    std::vector<float> row(n);
    for (float & value : row) {
        value = static_cast<float>(random.below(1000)) / 100.0f;
    }
    return row;
}

llama_token sample(checked_chain & chain, const std::vector<float> & row) {
    const size_t first = chain.load(row.data(), static_cast<int32_t>(row.size()));
    CHECK_EQ(chain.apply(first), chain.size());
    return chain.accept_selected();
}

template <typename Call>
std::string failure_of(Call call) {
    try {
        call();
    } catch (const error & reason) {
        return reason.what();
    }
    return {};
}

bool says(const std::string & text, const std::string & part) {
    return text.find(part) != std::string::npos;
}

}  // namespace

TEST(top_k_in_front_selects_what_the_whole_chain_selects) {
    random_source random(1);
    for (const int32_t k : {1, 3, 40, 200}) {
        checked_chain fast(nullptr);
        fast.insert(0, "top_k", sampler_kind::top_k, k, llama_sampler_init_top_k(k));
        checked_chain slow(nullptr);
        slow.insert(0, "temp", sampler_kind::changes, 0, llama_sampler_init_temp(1.0f));
        slow.insert(1, "top_k", sampler_kind::top_k, k, llama_sampler_init_top_k(k));
        for (checked_chain * chain : {&fast, &slow}) {
            chain->insert(chain->size(), "dist", sampler_kind::selects, 0, llama_sampler_init_dist(7));
        }
        for (int i = 0; i < 50; ++i) {
            std::vector<float> row = random_row(random, 1000);
            for (size_t id = 0; id < row.size(); ++id) {
                row[id] += static_cast<float>(id) * 1e-4f;  // no two are equal: llama.cpp gives ties any order
            }
            CHECK_EQ(sample(fast, row), sample(slow, row));
        }
    }
}

TEST(logits_without_order_are_refused) {
    checked_chain chain(nullptr);
    chain.insert(0, "temp", sampler_kind::changes, 0, llama_sampler_init_temp(1e-6f));
    chain.insert(1, "top_p", sampler_kind::plain, 0, llama_sampler_init_top_p(0.9f, 1));
    chain.insert(2, "dist", sampler_kind::selects, 0, llama_sampler_init_dist(1));
    std::vector<float> row(2000, 1.0f);
    row[1500] = std::numeric_limits<float>::quiet_NaN();
    CHECK(says(failure_of([&] { sample(chain, row); }), "first at token 1500"));
    row[1500] = 3e38f;
    CHECK(says(failure_of([&] { sample(chain, row); }), "'temp' made the logit of token 1500"));
    CHECK(says(failure_of([&] { sample(chain, std::vector<float>(20, -infinity)); }), "all logits are -inf"));
    CHECK(!chain.broken());
}

TEST(the_chain_stops_in_front_of_a_gap) {
    checked_chain chain(nullptr);
    chain.insert(0, "top_k", sampler_kind::top_k, 2, llama_sampler_init_top_k(2));
    chain.insert(1, "custom", sampler_kind::custom, 0, nullptr);
    chain.insert(2, "greedy", sampler_kind::greedy, 0, llama_sampler_init_greedy());
    const std::vector<float> row{0, 1, 5, 2, 3, 4, 0, 0, 0};
    CHECK_EQ(chain.apply(chain.load(row.data(), static_cast<int32_t>(row.size()))), 1u);
    CHECK_EQ(chain.candidates().size, 2u);
    chain.candidates().data[0].logit = -infinity;
    chain.changed();
    CHECK_EQ(chain.apply(2), chain.size());
    CHECK_EQ(chain.accept_selected(), 5);
    CHECK(says(failure_of([&] { chain.select(7); }), "token 7, which is not among"));
}

TEST(a_buffer_that_is_kept_is_not_written_again) {
    checked_chain chain(nullptr);
    chain.insert(0, "dist", sampler_kind::selects, 0, llama_sampler_init_dist(1));
    const std::vector<float> ones(10, 1.0f);
    chain.load(ones.data(), 10);
    const auto kept = chain.buffer();
    const std::vector<float> twos(10, 2.0f);
    chain.load(twos.data(), 10);
    CHECK_EQ(kept->at(3).logit, 1.0f);
    CHECK_EQ(chain.buffer()->at(3).logit, 2.0f);
}

TEST(a_clone_of_adaptive_p_waits_for_no_token) {
    checked_chain chain(nullptr);
    chain.insert(0, "adaptive_p", sampler_kind::adaptive, 0, llama_sampler_init_adaptive_p(0.3f, 0.9f, 1));
    const std::vector<float> row(5000, 1.0f);
    CHECK_EQ(chain.apply(chain.load(row.data(), 5000)), 1u);
    const llama_token selected = chain.candidates().data[chain.candidates().selected].id;
    chain.clone()->accept(selected);
    chain.accept(selected);
    CHECK_EQ(chain.n_accepted(), 1);
}

TEST(pairs_are_not_compared_over_a_vocabulary) {
    checked_chain chain(vocab());
    chain.insert(0, "infill", sampler_kind::pairs, 0, llama_sampler_init_infill(vocab()));
    const std::vector<float> row(static_cast<size_t>(llama_vocab_n_tokens(vocab())), 1.0f);
    CHECK(says(failure_of([&] { chain.apply(chain.load(row.data(), static_cast<int32_t>(row.size()))); }),
               "compares all pairs"));
}

TEST(a_grammar_is_asked_before_it_accepts) {
    checked_chain chain(vocab());
    chain.insert(0, "grammar", sampler_kind::grammar, 0,
                 llama_sampler_init_grammar(vocab(), "root ::= \"ab\"", "root"));
    const llama_token end = llama_vocab_eos(vocab());
    CHECK(says(failure_of([&] { chain.accept(end); }), "does not allow token " + std::to_string(end)));
    chain.accept(token_of("a"));
    CHECK(says(failure_of([&] { chain.accept(end); }), "does not allow"));
    chain.accept(token_of("b"));
    chain.accept(end);
    CHECK(!chain.broken());
}

TEST(a_trigger_is_searched_on_a_stack_that_is_deep_enough) {
    checked_chain chain(vocab());
    const char * pattern = "^[\\s\\S]*(<t>)$";
    chain.insert(
        0, "grammar", sampler_kind::lazy_patterns, 0,
        llama_sampler_init_grammar_lazy_patterns(vocab(), "root ::= \"<t>\" \"x\"", "root", &pattern, 1, nullptr, 0));
    const llama_token word = token_of(" International");
    for (int i = 0; i < 3000; ++i) {
        chain.accept(word);
    }
    for (const char * part : {"<", "t", ">"}) {
        chain.accept(token_of(part));
    }
    CHECK(says(failure_of([&] { chain.accept(word); }), "does not allow"));
}
