# The calls that can throw C++ exceptions, through llama.h's C interface too. They are declared here, and not in
# llama.pxd, because raise_captured must be in scope.

from libc.stdint cimport int32_t, uint8_t, uint32_t
from libcpp cimport bool as cbool
from libcpp.string cimport string
from libcpp.vector cimport vector

cimport llama

cdef extern from "tokenize.h" namespace "pyllama" nogil:
    vector[int32_t] c_tokenize "pyllama::tokenize"(const llama.llama_vocab * vocab, const string & text,
                                                   cbool add_special, cbool parse_special,
                                                   const string & field) except +raise_captured

cdef extern from "llama.h" nogil:
    llama.llama_model * llama_model_load_from_file(const char * path, llama.llama_model_params params) \
        except +raise_captured
    llama.llama_context * llama_init_from_model(llama.llama_model * model, llama.llama_context_params params) \
        except +raise_captured
    int32_t llama_token_to_piece(const llama.llama_vocab * vocab, llama.llama_token token, char * buf,
                                 int32_t length, int32_t lstrip, cbool special) except +raise_captured
    int32_t llama_detokenize(const llama.llama_vocab * vocab, const llama.llama_token * tokens, int32_t n_tokens,
                             char * text, int32_t text_len_max, cbool remove_special,
                             cbool unparse_special) except +raise_captured
    int32_t llama_encode(llama.llama_context * ctx, llama.llama_batch batch) except +raise_captured
    int32_t llama_decode(llama.llama_context * ctx, llama.llama_batch batch) except +raise_captured
    void llama_synchronize(llama.llama_context * ctx) except +raise_captured
    float * llama_get_logits_ith(llama.llama_context * ctx, int32_t i) except +raise_captured
    float * llama_get_embeddings_ith(llama.llama_context * ctx, int32_t i) except +raise_captured
    float * llama_get_embeddings_seq(llama.llama_context * ctx, llama.llama_seq_id seq_id) except +raise_captured

    cbool llama_set_sampler(llama.llama_context * ctx, llama.llama_seq_id seq_id, llama.llama_sampler * sampler) \
        except +raise_captured
    llama.llama_token llama_get_sampled_token_ith(llama.llama_context * ctx, int32_t i) except +raise_captured
    float * llama_get_sampled_probs_ith(llama.llama_context * ctx, int32_t i) except +raise_captured
    uint32_t llama_get_sampled_probs_count_ith(llama.llama_context * ctx, int32_t i) except +raise_captured
    float * llama_get_sampled_logits_ith(llama.llama_context * ctx, int32_t i) except +raise_captured
    uint32_t llama_get_sampled_logits_count_ith(llama.llama_context * ctx, int32_t i) except +raise_captured
    llama.llama_token * llama_get_sampled_candidates_ith(llama.llama_context * ctx, int32_t i) \
        except +raise_captured
    uint32_t llama_get_sampled_candidates_count_ith(llama.llama_context * ctx, int32_t i) except +raise_captured
    llama.llama_sampler * llama_sampler_chain_init(llama.llama_sampler_chain_params params) except +raise_captured
    void llama_sampler_chain_add(llama.llama_sampler * chain, llama.llama_sampler * sampler) except +raise_captured
    void llama_sampler_accept(llama.llama_sampler * sampler, llama.llama_token token) except +raise_captured

    llama.llama_sampler * llama_sampler_init_greedy() except +raise_captured
    llama.llama_sampler * llama_sampler_init_dist(uint32_t seed) except +raise_captured
    llama.llama_sampler * llama_sampler_init_top_k(int32_t k) except +raise_captured
    llama.llama_sampler * llama_sampler_init_top_p(float p, size_t min_keep) except +raise_captured
    llama.llama_sampler * llama_sampler_init_min_p(float p, size_t min_keep) except +raise_captured
    llama.llama_sampler * llama_sampler_init_typical(float p, size_t min_keep) except +raise_captured
    llama.llama_sampler * llama_sampler_init_temp(float t) except +raise_captured
    llama.llama_sampler * llama_sampler_init_temp_ext(float t, float delta, float exponent) except +raise_captured
    llama.llama_sampler * llama_sampler_init_xtc(float p, float t, size_t min_keep, uint32_t seed) \
        except +raise_captured
    llama.llama_sampler * llama_sampler_init_top_n_sigma(float n) except +raise_captured
    llama.llama_sampler * llama_sampler_init_mirostat(int32_t n_vocab, uint32_t seed, float tau, float eta,
                                                      int32_t m) except +raise_captured
    llama.llama_sampler * llama_sampler_init_mirostat_v2(uint32_t seed, float tau, float eta) except +raise_captured
    llama.llama_sampler * llama_sampler_init_grammar(const llama.llama_vocab * vocab, const char * text,
                                                     const char * root) except +raise_captured
    llama.llama_sampler * llama_sampler_init_grammar_lazy_patterns(
        const llama.llama_vocab * vocab, const char * text, const char * root, const char ** patterns,
        size_t n_patterns, const llama.llama_token * tokens, size_t n_tokens) except +raise_captured
    llama.llama_sampler * llama_sampler_init_penalties(int32_t n_vocab, int32_t last_n, float repeat, float freq,
                                                       float present) except +raise_captured
    llama.llama_sampler * llama_sampler_init_dry(const llama.llama_vocab * vocab, float multiplier, float base,
                                                 int32_t allowed_length, int32_t last_n, const char ** breakers,
                                                 size_t n_breakers) except +raise_captured
    llama.llama_sampler * llama_sampler_init_adaptive_p(float target, float decay, uint32_t seed) \
        except +raise_captured
    llama.llama_sampler * llama_sampler_init_logit_bias(int32_t n_vocab, int32_t n_bias,
                                                        const llama.llama_logit_bias * bias) except +raise_captured
    llama.llama_sampler * llama_sampler_init_infill(const llama.llama_vocab * vocab) except +raise_captured

cdef extern from "llama.h" nogil:
    llama.llama_model * llama_model_load_from_splits(const char ** paths, size_t n_paths,
                                                     llama.llama_model_params params) except +raise_captured

    llama.llama_batch_ext * llama_batch_ext_init(llama.llama_context * ctx) except +raise_captured
    int32_t llama_batch_ext_add_token(llama.llama_batch_ext * batch, llama.llama_seq_id seq_id,
                                      llama.llama_token id) except +raise_captured
    int32_t llama_batch_ext_add_embd(llama.llama_batch_ext * batch, llama.llama_seq_id seq_id,
                                     llama.llama_embd embd) except +raise_captured
    cbool llama_batch_ext_add_seq(llama.llama_batch_ext * batch, int32_t idx,
                                  llama.llama_seq_id seq_id) except +raise_captured
    int32_t llama_process(llama.llama_context * ctx, llama.llama_process_type kind,
                          llama.llama_batch_ext * batch) except +raise_captured

    size_t llama_state_get_size(llama.llama_context * ctx) except +raise_captured
    size_t llama_state_get_data(llama.llama_context * ctx, uint8_t * dst, size_t size) except +raise_captured
    size_t llama_state_set_data(llama.llama_context * ctx, const uint8_t * src, size_t size) except +raise_captured
    size_t llama_state_seq_get_size_ext(llama.llama_context * ctx, llama.llama_seq_id seq_id,
                                        uint32_t flags) except +raise_captured
    size_t llama_state_seq_get_data_ext(llama.llama_context * ctx, uint8_t * dst, size_t size,
                                        llama.llama_seq_id seq_id, uint32_t flags) except +raise_captured
    size_t llama_state_seq_set_data_ext(llama.llama_context * ctx, const uint8_t * src, size_t size,
                                        llama.llama_seq_id dest_seq_id, uint32_t flags) except +raise_captured

    llama.llama_adapter_lora * llama_adapter_lora_init(llama.llama_model * model, const char * path) \
        except +raise_captured
    int32_t llama_set_adapters_lora(llama.llama_context * ctx, llama.llama_adapter_lora ** adapters,
                                    size_t n_adapters, float * scales) except +raise_captured
    int32_t llama_set_adapter_cvec(llama.llama_context * ctx, const float * data, size_t len, int32_t n_embd,
                                   int32_t il_start, int32_t il_end) except +raise_captured

cdef extern from "lora_file.h" namespace "pyllama" nogil:
    void c_check_lora_file "pyllama::check_lora_file"(const llama.llama_model * model, const string & path) \
        except +raise_captured

cdef extern from "log_sink.h" namespace "pyllama" nogil:
    cdef enum class log_level:
        debug
        info
        warn
        error

    cdef cppclass log_line:
        log_level level
        string text

    cdef cppclass log_capture:
        log_capture()
        const string & text()

    void install_log() except +raise_captured
    void attach_log_reader(log_level level) except +raise_captured
    cbool next_log_line(log_line & line) except +raise_captured
    void detach_log_reader() except +raise_captured
