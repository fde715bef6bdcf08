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
        LLAMA_VOCAB_TYPE_SPM
        LLAMA_VOCAB_TYPE_BPE
        LLAMA_VOCAB_TYPE_WPM
        LLAMA_VOCAB_TYPE_UGM
        LLAMA_VOCAB_TYPE_RWKV
        LLAMA_VOCAB_TYPE_PLAMO2
        LLAMA_VOCAB_TYPE_TEST
        LLAMA_VOCAB_TYPE_PLAMO3
    enum llama_rope_type:
        LLAMA_ROPE_TYPE_NORM
        LLAMA_ROPE_TYPE_NEOX
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
    enum llama_attention_type:
        LLAMA_ATTENTION_TYPE_UNSPECIFIED
        LLAMA_ATTENTION_TYPE_CAUSAL
        LLAMA_ATTENTION_TYPE_NON_CAUSAL
    enum llama_rope_scaling_type:
        LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED
        LLAMA_ROPE_SCALING_TYPE_NONE
        LLAMA_ROPE_SCALING_TYPE_LINEAR
        LLAMA_ROPE_SCALING_TYPE_YARN
        LLAMA_ROPE_SCALING_TYPE_LONGROPE
    enum llama_split_mode:
        LLAMA_SPLIT_MODE_NONE
        LLAMA_SPLIT_MODE_LAYER
        LLAMA_SPLIT_MODE_ROW
        LLAMA_SPLIT_MODE_TENSOR
    enum llama_process_type:
        LLAMA_PROCESS_TYPE_ENCODE
        LLAMA_PROCESS_TYPE_DECODE
    enum llama_ftype:
        LLAMA_FTYPE_GUESSED
    enum llama_token_attr:
        LLAMA_TOKEN_ATTR_UNDEFINED
    enum llama_model_kv_override_type:
        LLAMA_KV_OVERRIDE_TYPE_INT
        LLAMA_KV_OVERRIDE_TYPE_FLOAT
        LLAMA_KV_OVERRIDE_TYPE_BOOL
        LLAMA_KV_OVERRIDE_TYPE_STR
    enum llama_flash_attn_type:
        LLAMA_FLASH_ATTN_TYPE_AUTO
        LLAMA_FLASH_ATTN_TYPE_DISABLED
        LLAMA_FLASH_ATTN_TYPE_ENABLED
    enum llama_load_mode:
        LLAMA_LOAD_MODE_NONE
        LLAMA_LOAD_MODE_MMAP
        LLAMA_LOAD_MODE_MLOCK
        LLAMA_LOAD_MODE_MMAP_MLOCK
        LLAMA_LOAD_MODE_DIRECT_IO
    enum llama_lazy_mode:
        LLAMA_LAZY_MODE_OFF
        LLAMA_LAZY_MODE_AUTO
        LLAMA_LAZY_MODE_ON
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

    struct ggml_backend_device:
        pass
    ctypedef ggml_backend_device * ggml_backend_dev_t
    ggml_backend_dev_t ggml_backend_dev_by_name(const char * name)
    ctypedef cbool (*ggml_abort_callback)(void * data) noexcept

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
    struct llama_model_kv_override:
        llama_model_kv_override_type tag
        char key[128]
        int64_t val_i64
        double val_f64
        cbool val_bool
        char val_str[128]
    struct ggml_backend_buffer_type:
        pass
    ctypedef ggml_backend_buffer_type * ggml_backend_buffer_type_t
    struct llama_model_tensor_buft_override:
        const char * pattern
        ggml_backend_buffer_type_t buft
    struct llama_model_params:
        ggml_backend_dev_t * devices
        const llama_model_tensor_buft_override * tensor_buft_overrides
        int32_t n_gpu_layers
        llama_split_mode split_mode
        llama_load_mode load_mode
        llama_lazy_mode lazy_mode
        int32_t main_gpu
        const float * tensor_split
        const llama_model_kv_override * kv_overrides
        llama_progress_callback progress_callback
        void * progress_callback_user_data
        cbool vocab_only
        cbool check_tensors
        cbool use_extra_bufts
        cbool no_host
    struct llama_context_params:
        uint32_t n_ctx
        uint32_t n_batch
        uint32_t n_ubatch
        uint32_t n_seq_max
        uint32_t n_rs_seq
        uint32_t n_outputs_max
        uint32_t n_outputs_max_per_seq
        int32_t n_threads
        int32_t n_threads_batch
        llama_rope_scaling_type rope_scaling_type
        llama_pooling_type pooling_type
        llama_attention_type attention_type
        llama_flash_attn_type flash_attn_type
        float rope_freq_base
        float rope_freq_scale
        float yarn_ext_factor
        float yarn_attn_factor
        float yarn_beta_fast
        float yarn_beta_slow
        uint32_t yarn_orig_ctx
        ggml_abort_callback abort_callback
        void * abort_callback_data
        ggml_type type_k
        ggml_type type_v
        size_t moe_cache_size
        cbool embeddings
        cbool offload_kqv
        cbool op_offload
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
    uint32_t llama_n_rs_seq(const llama_context * ctx)
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

# Model, vocabulary, context, batch and adapters: the rest of what their handles read and set.
cdef extern from "llama.h" nogil:
    struct llama_adapter_lora:
        pass
    struct llama_batch_ext:
        pass
    struct llama_embd:
        const float * data
        size_t n_rows
        size_t n_embd

    const uint32_t LLAMA_STATE_SEQ_FLAGS_NONE
    const uint32_t LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY

    size_t llama_max_devices()
    size_t llama_max_parallel_sequences()
    size_t llama_max_tensor_buft_overrides()
    cbool llama_supports_mmap()
    cbool llama_supports_mlock()
    cbool llama_supports_gpu_offload()
    cbool llama_supports_rpc()
    int32_t llama_model_n_embd_inp(const llama_model * model)
    int32_t llama_model_n_layer_nextn(const llama_model * model)
    int32_t llama_model_n_head_kv(const llama_model * model)
    float llama_model_rope_freq_scale_train(const llama_model * model)
    const char * llama_model_cls_label(const llama_model * model, uint32_t i)
    cbool llama_model_is_diffusion(const llama_model * model)
    llama_token llama_model_decoder_start_token(const llama_model * model)
    llama_ftype llama_model_ftype(const llama_model * model)
    const char * llama_ftype_name(llama_ftype ftype)

    const char * llama_vocab_get_text(const llama_vocab * vocab, llama_token token)
    float llama_vocab_get_score(const llama_vocab * vocab, llama_token token)
    llama_token_attr llama_vocab_get_attr(const llama_vocab * vocab, llama_token token)
    const llama_token * llama_vocab_get_suppress_tokens(const llama_vocab * vocab, int32_t * n_suppress_tokens)
    llama_token llama_vocab_mask(const llama_vocab * vocab)
    llama_token llama_vocab_fim_pre(const llama_vocab * vocab)
    llama_token llama_vocab_fim_suf(const llama_vocab * vocab)
    llama_token llama_vocab_fim_mid(const llama_vocab * vocab)
    llama_token llama_vocab_fim_pad(const llama_vocab * vocab)
    llama_token llama_vocab_fim_rep(const llama_vocab * vocab)
    llama_token llama_vocab_fim_sep(const llama_vocab * vocab)

    void llama_batch_ext_free(llama_batch_ext * batch)
    cbool llama_batch_ext_set_pos(llama_batch_ext * batch, int32_t idx, const llama_pos * pos)
    cbool llama_batch_ext_set_output_logits(llama_batch_ext * batch, int32_t idx, cbool value)

    void llama_set_embeddings(llama_context * ctx, cbool embeddings)
    void llama_set_causal_attn(llama_context * ctx, cbool causal_attn)
    void llama_set_n_threads(llama_context * ctx, int32_t n_threads, int32_t n_threads_batch)
    struct ggml_threadpool:
        pass
    ctypedef ggml_threadpool * ggml_threadpool_t
    void llama_attach_threadpool(llama_context * ctx, ggml_threadpool_t pool, ggml_threadpool_t pool_batch)
    void llama_detach_threadpool(llama_context * ctx)
    void llama_perf_context_reset(llama_context * ctx)

    void llama_adapter_lora_free(llama_adapter_lora * adapter)
    int32_t llama_adapter_meta_count(const llama_adapter_lora * adapter)
    int32_t llama_adapter_meta_key_by_index(const llama_adapter_lora * adapter, int32_t i, char * buf, size_t size)
    int32_t llama_adapter_meta_val_str_by_index(const llama_adapter_lora * adapter, int32_t i, char * buf, size_t size)
    uint64_t llama_adapter_get_alora_n_invocation_tokens(const llama_adapter_lora * adapter)
    const llama_token * llama_adapter_get_alora_invocation_tokens(const llama_adapter_lora * adapter)

cdef extern from "model_tensors.h" namespace "pyllama" nogil:
    int64_t n_learned_positions(const llama_model * model)

# Samplers that run in the context's graph.
cdef extern from "llama.h" nogil:
    struct llama_sampler_chain_params:
        cbool no_perf

    llama_sampler_chain_params llama_sampler_chain_default_params()
    void llama_sampler_free(llama_sampler * sampler)
