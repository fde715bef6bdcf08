#include "sampler_chain.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "errors.h"
#include "sampling.h"
#include "tokenize.h"

namespace pyllama {

namespace {

void require(bool ok, const char * param, const char * allowed) {
    if (!ok) {
        throw bad_request(std::string(param) + " must be " + allowed, param);
    }
}

void check(const common_params_sampling & s) {
    require(std::isfinite(s.temp), "temperature", "finite");
    require(std::isfinite(s.penalty_repeat) && s.penalty_repeat > 0.0f && std::isfinite(1.0f / s.penalty_repeat),
            "repeat_penalty", "finite and greater than 0");
    require(std::isfinite(s.penalty_freq), "frequency_penalty", "finite");
    require(std::isfinite(s.penalty_present), "presence_penalty", "finite");
    require(s.mirostat >= 0 && s.mirostat <= 2, "mirostat", "0, 1 or 2");
    require(std::isfinite(s.dynatemp_range) && std::isfinite(s.dynatemp_exponent), "dynatemp_range", "finite");
    require(s.penalty_last_n >= 0, "repeat_last_n", "0 or more once resolved");
    require(s.dry_penalty_last_n >= 0, "dry_penalty_last_n", "0 or more once resolved");
}

llama_sampler * make_dry(const llama_vocab * vocab, const common_params_sampling & s) {
    std::vector<const char *> breakers;
    for (const auto & text : s.dry_sequence_breakers) {
        breakers.push_back(text.c_str());
    }
    return llama_sampler_init_dry(vocab, s.dry_multiplier, s.dry_base, s.dry_allowed_length, s.dry_penalty_last_n,
                                  breakers.data(), breakers.size());
}

llama_sampler * make_one(enum common_sampler_type type, const llama_vocab * vocab, const common_params_sampling & s) {
    const size_t min_keep = static_cast<size_t>(s.min_keep > 0 ? s.min_keep : 0);
    switch (type) {
        case COMMON_SAMPLER_TYPE_DRY: return make_dry(vocab, s);
        case COMMON_SAMPLER_TYPE_TOP_K: return llama_sampler_init_top_k(s.top_k);
        case COMMON_SAMPLER_TYPE_TOP_P: return llama_sampler_init_top_p(s.top_p, min_keep);
        case COMMON_SAMPLER_TYPE_TOP_N_SIGMA: return llama_sampler_init_top_n_sigma(s.top_n_sigma);
        case COMMON_SAMPLER_TYPE_MIN_P: return llama_sampler_init_min_p(s.min_p, min_keep);
        case COMMON_SAMPLER_TYPE_XTC:
            return llama_sampler_init_xtc(s.xtc_probability, s.xtc_threshold, min_keep, s.seed);
        case COMMON_SAMPLER_TYPE_TYPICAL_P: return llama_sampler_init_typical(s.typ_p, min_keep);
        case COMMON_SAMPLER_TYPE_TEMPERATURE:
            return llama_sampler_init_temp_ext(s.temp, s.dynatemp_range, s.dynatemp_exponent);
        case COMMON_SAMPLER_TYPE_INFILL: return llama_sampler_init_infill(vocab);
        case COMMON_SAMPLER_TYPE_PENALTIES:
            return llama_sampler_init_penalties(llama_vocab_n_tokens(vocab), s.penalty_last_n, s.penalty_repeat,
                                                s.penalty_freq, s.penalty_present);
        default: return nullptr;
    }
}

bool does_nothing(enum common_sampler_type type, const common_params_sampling & s) {
    switch (type) {
        case COMMON_SAMPLER_TYPE_PENALTIES:
            return s.penalty_last_n == 0 ||
                   (s.penalty_repeat == 1.0f && s.penalty_freq == 0.0f && s.penalty_present == 0.0f);
        case COMMON_SAMPLER_TYPE_DRY: return s.dry_multiplier == 0.0f || s.dry_base < 1.0f || s.dry_penalty_last_n == 0;
        case COMMON_SAMPLER_TYPE_TOP_N_SIGMA: return s.top_n_sigma <= 0.0f;
        case COMMON_SAMPLER_TYPE_TOP_K: return s.top_k <= 0;
        case COMMON_SAMPLER_TYPE_TOP_P: return s.top_p >= 1.0f;
        case COMMON_SAMPLER_TYPE_MIN_P: return s.min_p <= 0.0f;
        case COMMON_SAMPLER_TYPE_TYPICAL_P: return s.typ_p >= 1.0f;
        case COMMON_SAMPLER_TYPE_XTC: return s.xtc_probability <= 0.0f || s.xtc_threshold > 0.5f;
        case COMMON_SAMPLER_TYPE_TEMPERATURE: return s.temp == 1.0f && s.dynatemp_range <= 0.0f;
        default: return false;
    }
}

// Whether make_one() makes one.
bool is_sampler(enum common_sampler_type type) {
    return type != COMMON_SAMPLER_TYPE_NONE && type != COMMON_SAMPLER_TYPE_ADAPTIVE_P;
}

first_look look_of(enum common_sampler_type type, const common_params_sampling & s) {
    switch (type) {
        case COMMON_SAMPLER_TYPE_TOP_K: return first_look::top_k;
        case COMMON_SAMPLER_TYPE_TOP_P: return first_look::top_p;
        case COMMON_SAMPLER_TYPE_MIN_P: return s.min_p <= 1.0f ? first_look::min_p : first_look::other;
        case COMMON_SAMPLER_TYPE_TOP_N_SIGMA:  // leaves the tokens that it excludes, and a range counts them
            return s.dynatemp_range > 0.0f ? first_look::other : first_look::top_n_sigma;
        case COMMON_SAMPLER_TYPE_TYPICAL_P: return first_look::sorted;
        case COMMON_SAMPLER_TYPE_TEMPERATURE:  // whose range follows from the distribution
            return s.dynatemp_range > 0.0f ? first_look::sorted : first_look::other;
        default: return first_look::other;
    }
}

bool uses(const common_params_sampling & s, enum common_sampler_type wanted) {
    for (const auto type : s.samplers) {
        if (type == wanted) {
            return true;
        }
    }
    return false;
}

}  // namespace

bool is_greedy(const common_params_sampling & s) {
    // XTC removes the likeliest tokens on purpose; the other two select by rules of their own.
    const bool xtc = uses(s, COMMON_SAMPLER_TYPE_XTC) && s.xtc_probability > 0.0f;
    if (s.mirostat != 0 || xtc || uses(s, COMMON_SAMPLER_TYPE_ADAPTIVE_P) || uses(s, COMMON_SAMPLER_TYPE_INFILL)) {
        return false;
    }
    bool cold = false;
    for (const auto type : s.samplers) {
        const bool changes_order = type == COMMON_SAMPLER_TYPE_PENALTIES || type == COMMON_SAMPLER_TYPE_DRY;
        if (changes_order && !does_nothing(type, s)) {
            return false;
        }
        // Locally typical sampling may drop the likeliest token.
        if (type == COMMON_SAMPLER_TYPE_TYPICAL_P && s.typ_p < 1.0f) {
            return false;
        }
        cold = cold || (type == COMMON_SAMPLER_TYPE_TEMPERATURE && s.temp <= 0.0f && s.dynatemp_range <= 0.0f) ||
               (type == COMMON_SAMPLER_TYPE_TOP_K && s.top_k == 1);
    }
    return cold;
}

chain_head head_of(const common_params_sampling & s) {
    chain_head head;
    if (s.mirostat != 0) {
        head.before.push_back(s.temp == 1.0f ? COMMON_SAMPLER_TYPE_NONE : COMMON_SAMPLER_TYPE_TEMPERATURE);
        head.look = s.temp <= 0.0f ? first_look::other : s.mirostat == 2 ? first_look::mirostat_v2 : first_look::sorted;
        return head;
    }
    for (const auto type : s.samplers) {
        if (!is_sampler(type)) {
            continue;
        }
        const bool changes_single_ones =
            type == COMMON_SAMPLER_TYPE_PENALTIES || type == COMMON_SAMPLER_TYPE_DRY ||
            (type == COMMON_SAMPLER_TYPE_TEMPERATURE && s.temp > 0.0f && s.dynatemp_range <= 0.0f);
        if (does_nothing(type, s)) {
            head.before.push_back(COMMON_SAMPLER_TYPE_NONE);
        } else if (changes_single_ones) {
            head.before.push_back(type);
        } else {
            head.look = look_of(type, s);
            return head;
        }
    }
    head.look = uses(s, COMMON_SAMPLER_TYPE_ADAPTIVE_P) ? first_look::other : first_look::draw;
    return head;
}

llama_sampler_ptr make_sampler_chain(const llama_vocab * vocab, const common_params_sampling & s) {
    check(s);
    auto options = llama_sampler_chain_default_params();
    options.no_perf = true;
    llama_sampler_ptr chain(llama_sampler_chain_init(options));

    if (s.mirostat != 0) {
        llama_sampler_chain_add(chain.get(), llama_sampler_init_temp(s.temp));
        llama_sampler_chain_add(
            chain.get(), s.mirostat == 1 ? llama_sampler_init_mirostat(llama_vocab_n_tokens(vocab), s.seed,
                                                                       s.mirostat_tau, s.mirostat_eta, 100)
                                         : llama_sampler_init_mirostat_v2(s.seed, s.mirostat_tau, s.mirostat_eta));
        return chain;
    }
    for (const auto type : s.samplers) {
        if (llama_sampler * sampler = make_one(type, vocab, s)) {
            llama_sampler_chain_add(chain.get(), sampler);
        }
    }
    const bool adaptive = uses(s, COMMON_SAMPLER_TYPE_ADAPTIVE_P);
    llama_sampler_chain_add(chain.get(),
                            adaptive ? llama_sampler_init_adaptive_p(s.adaptive_target, s.adaptive_decay, s.seed)
                                     : llama_sampler_init_dist(s.seed));
    return chain;
}

size_t n_remembered(const common_params_sampling & s) {
    const auto looks_back = [&](enum common_sampler_type type, int32_t n) {
        return s.mirostat == 0 && uses(s, type) && !does_nothing(type, s) ? static_cast<size_t>(n) : 0;
    };
    return std::max(looks_back(COMMON_SAMPLER_TYPE_PENALTIES, s.penalty_last_n),
                    looks_back(COMMON_SAMPLER_TYPE_DRY, s.dry_penalty_last_n));
}

llama_sampler_ptr make_grammar_sampler(const llama_vocab * vocab, const common_params_sampling & s) {
    const std::string & text = common_grammar_value(s.grammar);
    if (text.empty()) {
        return nullptr;
    }
    if (text.compare(0, 11, "%llguidance") == 0) {
        throw bad_request("this build has no llguidance grammars", "grammar");
    }
    llama_sampler_ptr grammar;
    if (s.grammar_lazy) {
        std::vector<std::string> patterns;
        std::vector<llama_token> tokens;
        for (const auto & trigger : s.grammar_triggers) {
            switch (trigger.type) {
                case COMMON_GRAMMAR_TRIGGER_TYPE_WORD: patterns.push_back(regex_escape(trigger.value)); break;
                case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN: patterns.push_back(trigger.value); break;
                case COMMON_GRAMMAR_TRIGGER_TYPE_PATTERN_FULL: {
                    std::string whole = trigger.value.empty() ? "^$" : trigger.value;
                    whole = (whole.front() == '^' ? "" : "^") + whole + (whole.back() == '$' ? "" : "$");
                    patterns.push_back(std::move(whole));
                    break;
                }
                case COMMON_GRAMMAR_TRIGGER_TYPE_TOKEN: tokens.push_back(trigger.token); break;
            }
        }
        std::vector<const char *> pattern_texts;
        for (const auto & pattern : patterns) {
            pattern_texts.push_back(pattern.c_str());
        }
        grammar.reset(llama_sampler_init_grammar_lazy_patterns(vocab, text.c_str(), "root", pattern_texts.data(),
                                                               pattern_texts.size(), tokens.data(), tokens.size()));
    } else {
        grammar.reset(llama_sampler_init_grammar(vocab, text.c_str(), "root"));
    }
    if (!grammar) {
        throw bad_request("the grammar cannot be parsed", "grammar");
    }
    // The template has already written this part of the answer into the prompt.
    if (!s.grammar_lazy && common_grammar_needs_prefill(s.grammar) && !s.generation_prompt.empty()) {
        const auto tokens = tokenize(vocab, s.generation_prompt, false, true, "messages");
        for (size_t i = 0; i < tokens.size(); ++i) {
            const std::string text_of_token = common_token_to_piece(vocab, tokens[i], true);
            const bool leading_space = i == 0 && !text_of_token.empty() &&
                                       std::isspace(static_cast<unsigned char>(text_of_token[0])) &&
                                       !std::isspace(static_cast<unsigned char>(s.generation_prompt[0]));
            if (leading_space) {
                continue;  // added by the tokenizer, not by the template
            }
            bool follows = !llama_vocab_is_eog(vocab, tokens[i]);
            try {
                if (follows) {
                    llama_sampler_accept(grammar.get(), tokens[i]);
                }
            } catch (const std::runtime_error &) {
                follows = false;
            }
            if (!follows) {
                throw bad_request(
                    "the grammar does not allow what the answer begins with: the last message, or the "
                    "template's generation prompt",
                    "grammar");
            }
        }
    }
    return grammar;
}

}  // namespace pyllama
