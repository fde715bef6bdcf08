# llama.h, as far as the bindings call it. What can throw through its C interface is declared in throwing.pxi, where
# the handler that turns C++ errors into ours is in scope.
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libcpp cimport bool as cbool

cdef extern from "llama.h" nogil:
    ctypedef int32_t llama_pos
    ctypedef int32_t llama_token
    ctypedef int32_t llama_seq_id

    struct llama_vocab:
        pass
    struct llama_model:
        pass
    struct llama_context:
        pass
    struct llama_memory_i:
        pass
    struct llama_sampler:
        pass
    ctypedef llama_memory_i * llama_memory_t

    const llama_token LLAMA_TOKEN_NULL
    const uint32_t LLAMA_DEFAULT_SEED

    enum llama_vocab_type:
        LLAMA_VOCAB_TYPE_NONE
        LLAMA_VOCAB_TYPE_WPM
    enum llama_rope_type:
        LLAMA_ROPE_TYPE_MROPE
        LLAMA_ROPE_TYPE_IMROPE
        LLAMA_ROPE_TYPE_VISION
    enum llama_pooling_type:
        LLAMA_POOLING_TYPE_UNSPECIFIED
        LLAMA_POOLING_TYPE_NONE
        LLAMA_POOLING_TYPE_MEAN
        LLAMA_POOLING_TYPE_CLS
        LLAMA_POOLING_TYPE_LAST
        LLAMA_POOLING_TYPE_RANK
    enum llama_flash_attn_type:
        LLAMA_FLASH_ATTN_TYPE_AUTO
        LLAMA_FLASH_ATTN_TYPE_DISABLED
        LLAMA_FLASH_ATTN_TYPE_ENABLED
    enum llama_load_mode:
        LLAMA_LOAD_MODE_NONE
        LLAMA_LOAD_MODE_MMAP
        LLAMA_LOAD_MODE_MLOCK
        LLAMA_LOAD_MODE_MMAP_MLOCK
    enum ggml_type:
        GGML_TYPE_F32
        GGML_TYPE_F16
        GGML_TYPE_BF16
        GGML_TYPE_Q8_0
        GGML_TYPE_Q4_0
        GGML_TYPE_Q4_1
        GGML_TYPE_IQ4_NL
        GGML_TYPE_Q5_0
        GGML_TYPE_Q5_1
    int64_t ggml_blck_size(ggml_type type)

    struct llama_token_data:
        llama_token id
        float logit
        float p
    struct llama_token_data_array:
        llama_token_data * data
        size_t size
        int64_t selected
        cbool sorted
    struct llama_logit_bias:
        llama_token token
        float bias

    struct llama_batch:
        int32_t n_tokens
        llama_token * token
        float * embd
        llama_pos * pos
        int32_t * n_seq_id
        llama_seq_id ** seq_id
        int8_t * logits

    ctypedef cbool (*llama_progress_callback)(float progress, void * user_data) noexcept
    struct llama_model_params:
        int32_t n_gpu_layers
        llama_load_mode load_mode
        llama_progress_callback progress_callback
        void * progress_callback_user_data
        cbool vocab_only
    struct llama_context_params:
        uint32_t n_ctx
        uint32_t n_batch
        uint32_t n_ubatch
        uint32_t n_seq_max
        int32_t n_threads
        int32_t n_threads_batch
        llama_pooling_type pooling_type
        llama_flash_attn_type flash_attn_type
        ggml_type type_k
        ggml_type type_v
        cbool embeddings
        cbool offload_kqv
        cbool no_perf
        cbool swa_full
        cbool kv_unified
    struct llama_perf_context_data:
        double t_load_ms
        double t_p_eval_ms
        double t_eval_ms
        int32_t n_p_eval
        int32_t n_eval
        int32_t n_reused

    llama_model_params llama_model_default_params()
    llama_context_params llama_context_default_params()

    void llama_backend_init()
    void llama_model_free(llama_model * model)
    void llama_free(llama_context * ctx)

    const llama_vocab * llama_model_get_vocab(const llama_model * model)
    llama_rope_type llama_model_rope_type(const llama_model * model)
    int32_t llama_model_n_ctx_train(const llama_model * model)
    int32_t llama_model_n_embd(const llama_model * model)
    int32_t llama_model_n_embd_out(const llama_model * model)
    int32_t llama_model_n_layer(const llama_model * model)
    int32_t llama_model_n_head(const llama_model * model)
    int32_t llama_model_n_swa(const llama_model * model)
    uint32_t llama_model_n_cls_out(const llama_model * model)
    uint64_t llama_model_size(const llama_model * model)
    uint64_t llama_model_n_params(const llama_model * model)
    int32_t llama_model_desc(const llama_model * model, char * buf, size_t buf_size)
    const char * llama_model_chat_template(const llama_model * model, const char * name)
    cbool llama_model_has_encoder(const llama_model * model)
    cbool llama_model_has_decoder(const llama_model * model)
    cbool llama_model_is_recurrent(const llama_model * model)
    cbool llama_model_is_hybrid(const llama_model * model)
    int32_t llama_model_meta_val_str(const llama_model * model, const char * key, char * buf, size_t size)
    int32_t llama_model_meta_count(const llama_model * model)
    int32_t llama_model_meta_key_by_index(const llama_model * model, int32_t i, char * buf, size_t size)
    int32_t llama_model_meta_val_str_by_index(const llama_model * model, int32_t i, char * buf, size_t size)

    llama_vocab_type llama_vocab_get_type "llama_vocab_type"(const llama_vocab * vocab)
    int32_t llama_vocab_n_tokens(const llama_vocab * vocab)
    cbool llama_vocab_is_eog(const llama_vocab * vocab, llama_token token)
    cbool llama_vocab_is_control(const llama_vocab * vocab, llama_token token)
    llama_token llama_vocab_bos(const llama_vocab * vocab)
    llama_token llama_vocab_eos(const llama_vocab * vocab)
    llama_token llama_vocab_eot(const llama_vocab * vocab)
    llama_token llama_vocab_sep(const llama_vocab * vocab)
    llama_token llama_vocab_nl(const llama_vocab * vocab)
    llama_token llama_vocab_pad(const llama_vocab * vocab)
    cbool llama_vocab_get_add_bos(const llama_vocab * vocab)
    cbool llama_vocab_get_add_eos(const llama_vocab * vocab)
    cbool llama_vocab_get_add_sep(const llama_vocab * vocab)

    uint32_t llama_n_ctx(const llama_context * ctx)
    uint32_t llama_n_ctx_seq(const llama_context * ctx)
    uint32_t llama_n_batch(const llama_context * ctx)
    uint32_t llama_n_ubatch(const llama_context * ctx)
    uint32_t llama_n_seq_max(const llama_context * ctx)
    int32_t llama_n_threads(llama_context * ctx)
    int32_t llama_n_threads_batch(llama_context * ctx)
    llama_memory_t llama_get_memory(const llama_context * ctx)
    llama_pooling_type llama_get_pooling_type "llama_pooling_type"(const llama_context * ctx)
    cbool llama_get_causal_attn(const llama_context * ctx)
    llama_perf_context_data llama_perf_context(const llama_context * ctx)

    void llama_memory_clear(llama_memory_t mem, cbool data)
    cbool llama_memory_seq_rm(llama_memory_t mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1)
    void llama_memory_seq_cp(llama_memory_t mem, llama_seq_id src, llama_seq_id dst, llama_pos p0, llama_pos p1)
    void llama_memory_seq_keep(llama_memory_t mem, llama_seq_id seq_id)
    void llama_memory_seq_add(llama_memory_t mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1, llama_pos delta)
    void llama_memory_seq_div(llama_memory_t mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1, int d)
    llama_pos llama_memory_seq_pos_min(llama_memory_t mem, llama_seq_id seq_id)
    llama_pos llama_memory_seq_pos_max(llama_memory_t mem, llama_seq_id seq_id)
    cbool llama_memory_can_shift(llama_memory_t mem)


cdef extern from "backends.h" namespace "pyllama" nogil:
    void load_backends() except +

cdef extern from *:
    """
    #include <unistd.h>
    static inline long pyllama_process_id() { return (long) getpid(); }
    """
    long process_id "pyllama_process_id"() nogil
