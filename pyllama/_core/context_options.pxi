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
cdef dict _FLASH_ATTN_TYPES = {
    "auto": llama.LLAMA_FLASH_ATTN_TYPE_AUTO,
    True: llama.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    False: llama.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}
# Draft models that live on another context's hidden states.
cdef frozenset _DRAFT_ARCHITECTURES = frozenset(("eagle3", "dflash", "gemma4-assistant"))


cdef int _default_threads():
    if hasattr(_os, "sched_getaffinity"):
        return min(len(_os.sched_getaffinity(0)), 512)
    return min(_os.cpu_count() or 1, 512)


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


cdef int _check_pooling(Model model, llama.llama_context_params * params, object pooling) except -1:
    """Mean pooling aborts while buffers are reserved unless a compute step divides evenly among the sequences."""
    meta = model.meta
    own = meta.get(f"{meta.get('general.architecture')}.pooling_type")
    if pooling not in ("mean", "rank") and not (pooling is None and own in ("1", "4")):
        return 0
    n_ctx = params.n_ctx or llama.llama_model_n_ctx_train(model._ptr)
    step = min(params.n_ubatch, params.n_batch)
    # A causal model's batch is limited by the context, another's is not.
    for n_tokens in (min(step, n_ctx), min(step, (n_ctx + 255) // 256 * 256)):
        if n_tokens % params.n_seq_max:
            raise _errors.InvalidRequestError(
                f"pooling needs steps that divide by n_seq_max={params.n_seq_max}: n_ubatch={n_tokens} does not",
                param="n_ubatch",
            )
    return 0
