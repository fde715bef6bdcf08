# The options of a context: names, and what llama.cpp would abort on.

cdef dict _KV_TYPES = {
    "f32": llama.GGML_TYPE_F32,
    "f16": llama.GGML_TYPE_F16,
    "bf16": llama.GGML_TYPE_BF16,
    "q8_0": llama.GGML_TYPE_Q8_0,
    "q4_0": llama.GGML_TYPE_Q4_0,
    "q4_1": llama.GGML_TYPE_Q4_1,
    "iq4_nl": llama.GGML_TYPE_IQ4_NL,
    "q5_0": llama.GGML_TYPE_Q5_0,
    "q5_1": llama.GGML_TYPE_Q5_1,
}
cdef dict _POOLING_TYPES = {
    None: llama.LLAMA_POOLING_TYPE_UNSPECIFIED,
    "none": llama.LLAMA_POOLING_TYPE_NONE,
    "mean": llama.LLAMA_POOLING_TYPE_MEAN,
    "cls": llama.LLAMA_POOLING_TYPE_CLS,
    "last": llama.LLAMA_POOLING_TYPE_LAST,
    "rank": llama.LLAMA_POOLING_TYPE_RANK,
}
cdef dict _POOLING_NAMES = {<int> value: name for name, value in _POOLING_TYPES.items() if name is not None}
cdef dict _ATTENTION_TYPES = {
    None: llama.LLAMA_ATTENTION_TYPE_UNSPECIFIED,
    "causal": llama.LLAMA_ATTENTION_TYPE_CAUSAL,
    "non-causal": llama.LLAMA_ATTENTION_TYPE_NON_CAUSAL,
}
cdef dict _FLASH_ATTN_TYPES = {
    "auto": llama.LLAMA_FLASH_ATTN_TYPE_AUTO,
    True: llama.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    False: llama.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}
cdef dict _ROPE_SCALING_TYPES = {
    None: llama.LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED,
    "none": llama.LLAMA_ROPE_SCALING_TYPE_NONE,
    "linear": llama.LLAMA_ROPE_SCALING_TYPE_LINEAR,
    "yarn": llama.LLAMA_ROPE_SCALING_TYPE_YARN,
    "longrope": llama.LLAMA_ROPE_SCALING_TYPE_LONGROPE,
}
# Draft models that live on another context's hidden states.
cdef frozenset _DRAFT_ARCHITECTURES = frozenset(("eagle3", "dflash", "gemma4-assistant"))


@cython.internal
@cython.final
@cython.auto_pickle(False)
cdef class _ContextOptions:
    """llama.cpp's parameters of a context, each value checked."""

    cdef llama.llama_context_params params
    cdef Model model

    def __cinit__(self, Model model not None):
        model._alive()
        self.model = model
        self.params = llama.llama_context_default_params()
        self.params.no_perf = False
        if model.vocab_only:
            raise _errors.InvalidRequestError(f"{model!r} was loaded with vocab_only=True: it has no weights to run")
        architecture = model.meta.get("general.architecture")
        if architecture in _DRAFT_ARCHITECTURES:
            raise _errors.UnsupportedError(f"{model!r} ({architecture}) is a draft model and cannot run alone")

    cdef int set_sizes(self, object n_ctx, object n_batch, object n_ubatch, object n_seq_max,
                       object n_outputs_max, object n_outputs_max_per_seq) except -1:
        self.params.n_ctx = <uint32_t> _integer(n_ctx, "n_ctx", 0, 1 << 30)
        self.params.n_batch = <uint32_t> _integer(n_batch, "n_batch", 1, 1 << 22)
        self.params.n_ubatch = <uint32_t> _integer(n_ubatch, "n_ubatch", 1, 1 << 22)
        self.params.n_seq_max = <uint32_t> _integer(n_seq_max, "n_seq_max", 1, SEQUENCE_LIMIT)
        self.params.n_outputs_max = <uint32_t> _integer(n_outputs_max, "n_outputs_max", 0, 1 << 22)
        self.params.n_outputs_max_per_seq = <uint32_t> _integer(n_outputs_max_per_seq, "n_outputs_max_per_seq", 1, 64)
        # One output for each sequence is reserved at once, and that many must be allowed.
        cdef int64_t room = min(self.params.n_batch, self._n_ctx())
        for name, value in (("n_batch", room), ("n_outputs_max", self.params.n_outputs_max or room)):
            if value < self.params.n_seq_max:
                raise _errors.InvalidRequestError(
                    f"n_seq_max={n_seq_max} sequences need {name} (and n_ctx) of at least as many tokens, not {value}",
                    param=name,
                )
        return 0

    cdef int set_snapshots(self, object n_rs_seq) except -1:
        """llama.cpp keeps the last n_rs_seq + 1 tokens of a sequence in one compute step, and asserts that they fit."""
        cdef int64_t step = min(self.params.n_ubatch, self.params.n_batch, self._n_ctx())
        self.params.n_rs_seq = <uint32_t> _integer(n_rs_seq, "n_rs_seq", 0, max(step - 2, 0))
        return 0

    cdef int64_t _n_ctx(self):
        return self.params.n_ctx or llama.llama_model_n_ctx_train(self.model._ptr)

    cdef int set_threads(self, object n_threads, object n_threads_batch) except -1:
        if n_threads is None:
            n_threads = _default_threads()
        if n_threads_batch is None:
            n_threads_batch = n_threads
        self.params.n_threads = <int32_t> _integer(n_threads, "n_threads", 1, ggml.GGML_MAX_N_THREADS)
        self.params.n_threads_batch = <int32_t> _integer(
            n_threads_batch, "n_threads_batch", 1, ggml.GGML_MAX_N_THREADS
        )
        return 0

    cdef int set_memory(self, object flash_attn, bint kv_unified, object type_k, object type_v,
                        bint swa_full) except -1:
        cdef int flash_attn_type = _choice(_FLASH_ATTN_TYPES, flash_attn, "flash_attn")
        cdef int k = _choice(_KV_TYPES, type_k, "type_k")
        cdef int v = _choice(_KV_TYPES, type_v, "type_v")
        self.params.flash_attn_type = <llama.llama_flash_attn_type> flash_attn_type
        self.params.type_k = <llama.ggml_type> k
        self.params.type_v = <llama.ggml_type> v
        self.params.kv_unified = kv_unified
        self.params.swa_full = swa_full
        _check_head_size(self.model, self.params.type_k, "type_k", type_k)
        _check_head_size(self.model, self.params.type_v, "type_v", type_v)
        if not kv_unified and self.params.n_seq_max > 1 and llama.llama_model_has_encoder(self.model._ptr):
            raise _errors.UnsupportedError(f"{self.model!r} has an encoder: it needs kv_unified=True")
        return 0

    cdef int set_embeddings(self, bint embeddings, object pooling, object attention_type) except -1:
        cdef int pooling_type = _choice(_POOLING_TYPES, pooling, "pooling")
        cdef int attention = _choice(_ATTENTION_TYPES, attention_type, "attention_type")
        self.params.embeddings = embeddings
        self.params.pooling_type = <llama.llama_pooling_type> pooling_type
        self.params.attention_type = <llama.llama_attention_type> attention
        cdef const llama.llama_model * model = self.model._ptr
        cdef bint both = llama.llama_model_has_encoder(model) and llama.llama_model_has_decoder(model)
        if both and pooling not in (None, "none"):
            raise _errors.UnsupportedError(f"{self.model!r} decodes what it encoded, which cannot be pooled")
        if embeddings:
            _check_pooling(
                pooling or _own_pooling(self.model), self._n_ctx(), min(self.params.n_ubatch, self.params.n_batch),
                self.params.n_seq_max, self.params.n_outputs_max,
            )
        return 0

    cdef int set_rope(self, object scaling_type, object freq_base, object freq_scale, object yarn_ext_factor,
                      object yarn_attn_factor, object yarn_beta_fast, object yarn_beta_slow,
                      object yarn_orig_ctx) except -1:
        cdef int scaling = _choice(_ROPE_SCALING_TYPES, scaling_type, "rope_scaling_type")
        self.params.rope_scaling_type = <llama.llama_rope_scaling_type> scaling
        if freq_base is not None:
            self.params.rope_freq_base = <float> _real(freq_base, "rope_freq_base", 1e-3, 1e12)
        if freq_scale is not None:
            self.params.rope_freq_scale = <float> _real(freq_scale, "rope_freq_scale", 1e-4, 1e4)
        if yarn_ext_factor is not None:
            self.params.yarn_ext_factor = <float> _real(yarn_ext_factor, "yarn_ext_factor", 0, 1e6)
        if yarn_attn_factor is not None:
            self.params.yarn_attn_factor = <float> _real(yarn_attn_factor, "yarn_attn_factor", 0, 1e6)
        if yarn_beta_fast is not None:
            self.params.yarn_beta_fast = <float> _real(yarn_beta_fast, "yarn_beta_fast", 1e-3, 1e6)
        if yarn_beta_slow is not None:
            self.params.yarn_beta_slow = <float> _real(yarn_beta_slow, "yarn_beta_slow", 1e-3, 1e6)
        if yarn_orig_ctx is not None:
            self.params.yarn_orig_ctx = <uint32_t> _integer(yarn_orig_ctx, "yarn_orig_ctx", 1, 1 << 30)
        return 0


cdef int _default_threads():
    if hasattr(_os, "sched_getaffinity"):
        return min(len(_os.sched_getaffinity(0)), ggml.GGML_MAX_N_THREADS)
    return min(_os.cpu_count() or 1, ggml.GGML_MAX_N_THREADS)


cdef int _check_head_size(Model model, llama.ggml_type kind, str param, object name) except -1:
    """A quantised memory stores heads in blocks; llama.cpp aborts on a head that is no whole number of them."""
    cdef int64_t block = llama.ggml_blck_size(kind)
    if block == 1:
        return 0
    meta = model.meta
    architecture = meta.get("general.architecture", "")
    key = f"{architecture}.attention.{'key' if param == 'type_k' else 'value'}_length"
    cdef int64_t n_head = max(llama.llama_model_n_head(model._ptr), 1)
    cdef int64_t head = int(meta[key]) if key in meta else llama.llama_model_n_embd(model._ptr) // n_head
    if head % block:
        raise _errors.InvalidRequestError(
            f"{param}={name!r} stores blocks of {block} numbers, and the heads of this model have {head}", param=param
        )
    return 0


cdef bint _keys_can_shift(Model model, str type_k) except -1:
    """Whether positions in the memory can be shifted in this number format.

    To shift quantised keys, llama.cpp turns them back by a rotation that it makes only for heads that are multiples
    of 64, and looks for it in any case.
    """
    if llama.ggml_blck_size(<llama.ggml_type> <int> _KV_TYPES[type_k]) == 1:
        return True
    if _os.environ.get("LLAMA_ATTN_ROT_DISABLE", "0") != "0":
        return False
    meta = model.meta
    architecture = meta.get("general.architecture", "")
    cdef int64_t n_head = max(llama.llama_model_n_head(model._ptr), 1)
    own = llama.llama_model_n_embd(model._ptr) // n_head
    head = int(meta.get(f"{architecture}.attention.key_length", own))
    return head % 64 == 0 and int(meta.get(f"{architecture}.attention.key_length_swa", head)) == head


cdef str _own_pooling(Model model):
    """Return the name of a model's own pooling."""
    meta = model.meta
    own = meta.get(f"{meta.get('general.architecture')}.pooling_type", "")
    return _POOLING_NAMES.get(int(own), "none") if own.isdecimal() else "none"


cdef int _check_pooling(str pooling, int64_t n_ctx, int64_t step, int64_t n_seq_max, int64_t n_outputs_max) except -1:
    """Mean pooling aborts while buffers are reserved unless a compute step divides evenly among the sequences.

    It takes every token of a step for an output, as embeddings are.
    """
    cdef int64_t n_tokens
    if 0 < n_outputs_max < step:
        raise _errors.InvalidRequestError(
            f"n_outputs_max={n_outputs_max} must be 0 or at least n_ubatch={step}: every token has embeddings",
            param="n_outputs_max",
        )
    if pooling not in ("mean", "rank"):
        return 0
    # A causal model's batch is limited by the context, another's is not.
    for n_tokens in (min(step, n_ctx), min(step, (n_ctx + 255) // 256 * 256)):
        if n_tokens % n_seq_max:
            raise _errors.InvalidRequestError(
                f"pooling needs steps that divide by n_seq_max={n_seq_max}: n_ubatch={n_tokens} does not",
                param="n_ubatch",
            )
    return 0
