# One pass through the model. A batch is checked first: what llama.cpp would abort on is refused, what it would only
# refuse is named.

# The architectures whose first layer needs token ids.
cdef frozenset _TOKENS_ONLY = frozenset(("graniteswitch",))


cdef cbool _is_cancelled(void * flag) noexcept nogil:
    return (<atomic[cbool] *> flag).load() or _exiting.load()


cdef int _decode(Context context, Batch batch) except -1:
    cdef const llama.llama_model * model = context._model._ptr
    # Without memory (BERT and the like) there is only one kind of pass.
    cdef bint encode = llama.llama_get_memory(context._ptr) is NULL
    if not llama.llama_model_has_decoder(model):
        raise _errors.UnsupportedError(f"{context._model!r} has no decoder: use encode()")
    _check_batch(context, batch, encode)
    if not encode and llama.llama_model_has_encoder(model):
        _check_encoded(context, batch)
    _compute(context, batch, encode)
    if not encode:
        context._memory_update_pending = False
    return 0


cdef int _encode(Context context, Batch batch) except -1:
    cdef bint has_encoder = llama.llama_model_has_encoder(context._model._ptr)
    if llama.llama_get_memory(context._ptr) is not NULL and not has_encoder:
        raise _errors.UnsupportedError(f"{context._model!r} has no encoder: use decode()")
    _check_batch(context, batch, True)
    _compute(context, batch, True)
    if has_encoder:
        context._encoded = _sequences_of(batch)
    return 0


cdef frozenset _sequences_of(Batch batch):
    cdef int32_t i
    cdef int32_t j
    found = set()
    for i in range(batch._batch.n_tokens):
        for j in range(batch._batch.n_seq_id[i]):
            found.add(batch._batch.seq_id[i][j])
    return frozenset(found)


cdef int _check_encoded(Context context, Batch batch) except -1:
    missing = _sequences_of(batch) - context._encoded
    if missing:
        raise _errors.InvalidRequestError(
            f"this model decodes only after encode(): sequence {min(missing)} was not in the last batch encoded",
            param="batch",
        )
    return 0


cdef int _check_batch(Context context, Batch batch, bint encode) except -1:
    cdef llama.llama_batch * b = &batch._batch
    cdef llama.llama_context * ptr = context._ptr
    cdef int32_t limit = <int32_t> llama.llama_n_batch(ptr)
    if batch._busy:
        raise _errors.EngineError("the batch is being decoded by another thread")
    if b.n_tokens == 0:
        raise _errors.InvalidRequestError("the batch is empty", param="batch")
    if b.n_tokens > limit:
        raise _errors.InvalidRequestError(
            f"the batch holds {b.n_tokens} tokens, and n_batch is {limit}", param="batch"
        )
    limit = <int32_t> llama.llama_n_ubatch(ptr)
    if b.n_tokens > limit and (encode or not llama.llama_get_causal_attn(ptr)):
        raise _errors.InvalidRequestError(
            f"the batch holds {b.n_tokens} tokens, which this model must take in one step: n_ubatch is {limit}",
            param="batch",
        )
    _check_entries(context, b, batch._n_embeddings, encode)
    if batch._n_embeddings:
        _check_embeddings(context, batch)
    return 0


cdef int _check_entries(Context context, llama.llama_batch * b, int32_t n_embeddings, bint encode) except -1:
    cdef int32_t n_seq_max = <int32_t> llama.llama_n_seq_max(context._ptr)
    cdef bint shareable = context._kv_unified and not llama.llama_model_is_recurrent(context._model._ptr)
    cdef uint32_t n_outputs = 0
    cdef int32_t i
    cdef int32_t j
    for i in range(b.n_tokens):
        if b.n_seq_id[i] > 1 and not (shareable or encode):
            raise _errors.InvalidRequestError(
                f"the token at index {i} belongs to {b.n_seq_id[i]} sequences: that needs kv_unified=True, and a model "
                "that is not recurrent",
                param="batch",
            )
        if (b.token[i] < 0 and n_embeddings == 0) or b.token[i] >= context._n_vocab:
            raise _errors.InvalidRequestError(
                f"token {b.token[i]} at index {i} is outside the vocabulary of {context._n_vocab} tokens",
                param="batch",
            )
        if context._n_positions and b.pos[i] >= context._n_positions:
            raise _errors.InvalidRequestError(
                f"position {b.pos[i]} at index {i}: the model has learned {context._n_positions} positions",
                param="batch",
            )
        for j in range(b.n_seq_id[i]):
            if b.seq_id[i][j] >= n_seq_max:
                raise _errors.InvalidRequestError(
                    f"sequence {b.seq_id[i][j]} at index {i} is not below n_seq_max={n_seq_max}", param="batch"
                )
        n_outputs += encode or context._embeddings or b.logits[i]
    if n_outputs > context._n_outputs_max:
        raise _errors.InvalidRequestError(
            f"the batch asks for {n_outputs} outputs, and n_outputs_max is {context._n_outputs_max}", param="batch"
        )
    return 0


cdef int _check_embeddings(Context context, Batch batch) except -1:
    cdef int32_t n_embd = llama.llama_model_n_embd_inp(context._model._ptr)
    if batch._n_embd != n_embd:
        raise _errors.InvalidRequestError(
            f"the batch was made for embeddings of {batch._n_embd} numbers, and this model's have {n_embd}",
            param="batch",
        )
    if batch._in_sections and not _has_sections(context._model._ptr):
        raise _errors.InvalidRequestError(
            f"positions of three sections are for models with M-RoPE, and {context._model!r} has none", param="batch"
        )
    architecture = context._model.meta.get("general.architecture")
    if architecture in _TOKENS_ONLY:
        raise _errors.UnsupportedError(f"{context._model!r} ({architecture}) takes tokens only, no embeddings")
    return 0


cdef int _compute(Context context, Batch batch, bint encode) except -1:
    cdef llama.llama_context * ptr = context._ptr
    cdef log_capture capture
    cdef int32_t code
    cdef int32_t i
    cdef bint mixed = 0 < batch._n_embeddings < batch._batch.n_tokens
    if context._cancelled.exchange(False):
        raise _errors.DecodeCancelledError("cancel() was called before the computation: nothing was changed")
    context._n_rows = 0
    batch._busy = True
    _enter()
    try:
        with nogil:
            context._model._adapters_mutex.lock_shared()
            try:
                code = _run_mixed(ptr, batch, encode) if mixed else _run(context, batch, encode)
            finally:
                context._model._adapters_mutex.unlock_shared()
    finally:
        batch._busy = False
        _leave()
    if code != 0:
        _raise_failure(context, batch, code, _text(capture.text()))
    context._retired_pools.clear()
    for i in range(batch._batch.n_tokens):
        context._outputs[i] = encode or context._embeddings or batch._batch.logits[i]
    if context._graph_samplers and not encode:
        for i in range(batch._batch.n_tokens):
            if context._outputs[i]:
                context._outputs[i] = _output_flags(context, &batch._batch, i)
    if not encode and llama.llama_n_rs_seq(ptr):
        _note_states(context, batch)
    context._n_rows = batch._batch.n_tokens
    context._has_logits = not encode or llama.llama_model_is_diffusion(context._model._ptr)
    context._has_embeddings = context._embeddings
    return 0


cdef int _note_states(Context context, Batch batch) except -1:
    """llama.cpp keeps the states after each token of a sequence's last step, where not every token is an output."""
    cdef int32_t i
    cdef int32_t n
    for sequence in _sequences_of(batch):
        context._forget_states(sequence)
    if context._embeddings:
        return 0
    for i in range(batch._batch.n_tokens):
        n = context._n_states.get(batch._batch.seq_id[i][0], 0)
        context._n_states[batch._batch.seq_id[i][0]] = n + 1
    return 0


cdef int32_t _run(Context context, Batch batch, bint encode) except? -1 nogil:
    """Compute a batch of tokens alone or of embeddings alone."""
    cdef llama.llama_batch c_batch = batch._batch
    cdef vector[llama.llama_pos] positions
    if batch._n_embeddings:
        c_batch.token = NULL
        if _has_sections(context._model._ptr):
            _positions_by_section(batch, &c_batch, positions)
    else:
        c_batch.embd = NULL
    if encode:
        return llama_encode(context._ptr, c_batch)
    return llama_decode(context._ptr, c_batch)


cdef bint _has_sections(const llama.llama_model * model) noexcept nogil:
    """Tell whether an embedding has several positions (M-RoPE), of which a text's are all the same."""
    cdef llama.llama_rope_type rope = llama.llama_model_rope_type(model)
    return rope == llama.LLAMA_ROPE_TYPE_MROPE or rope == llama.LLAMA_ROPE_TYPE_IMROPE


cdef int _positions_by_section(Batch batch, llama.llama_batch * b, vector[llama.llama_pos] & out) except -1 nogil:
    cdef llama.llama_pos positions[4]
    cdef int32_t i
    cdef int32_t section
    out.resize(<size_t> b.n_tokens * 4)
    for i in range(b.n_tokens):
        _sections_of(batch, i, positions)
        for section in range(4):
            out[<size_t> section * b.n_tokens + i] = positions[section]
    b.pos = out.data()
    return 0


cdef void _sections_of(Batch batch, int32_t i, llama.llama_pos * out) noexcept nogil:
    """An entry's four positions, as M-RoPE has them: a text's are the same in three sections."""
    out[0] = out[1] = out[2] = batch._batch.pos[i]
    out[3] = 0
    if batch._in_sections and batch._sections[3 * i] >= 0:
        memcpy(out + 1, batch._sections + 3 * i, 3 * sizeof(llama.llama_pos))


cdef int32_t _run_mixed(llama.llama_context * ptr, Batch batch, bint encode) except? -1 nogil:
    """Compute a batch of tokens and embeddings."""
    cdef llama.llama_process_type kind = (
        llama.LLAMA_PROCESS_TYPE_ENCODE if encode else llama.LLAMA_PROCESS_TYPE_DECODE
    )
    cdef llama.llama_batch_ext * mixed = llama_batch_ext_init(ptr)
    try:
        if not _fill_mixed(mixed, batch):
            return -1
        return llama_process(ptr, kind, mixed)
    finally:
        llama.llama_batch_ext_free(mixed)


cdef bint _fill_mixed(llama.llama_batch_ext * mixed, Batch batch) except? 0 nogil:
    cdef llama.llama_batch * b = &batch._batch
    cdef llama.llama_embd row
    cdef llama.llama_pos positions[4]
    cdef int32_t i
    cdef int32_t j
    cdef int32_t index
    row.n_rows = 1
    row.n_embd = batch._n_embd
    for i in range(b.n_tokens):
        if b.token[i] == llama.LLAMA_TOKEN_NULL:
            row.data = b.embd + <size_t> i * batch._n_embd
            index = llama_batch_ext_add_embd(mixed, b.seq_id[i][0], row)
        else:
            index = llama_batch_ext_add_token(mixed, b.seq_id[i][0], b.token[i])
        if index != i:
            return False
        for j in range(1, b.n_seq_id[i]):
            llama_batch_ext_add_seq(mixed, i, b.seq_id[i][j])
        _sections_of(batch, i, positions)
        llama.llama_batch_ext_set_pos(mixed, i, positions)
        llama.llama_batch_ext_set_output_logits(mixed, i, b.logits[i] != 0)
    return True


cdef int _raise_failure(Context context, Batch batch, int32_t code, str captured) except -1:
    cdef int32_t n_tokens = batch._batch.n_tokens
    if code == 1:
        raise _errors.ContextFullError(
            f"no room in the KV memory for {n_tokens} more tokens (n_ctx is {llama.llama_n_ctx(context._ptr)}); "
            "nothing was changed: remove sequences, or decode a smaller batch"
        )
    if code == -1:
        raise _errors.InvalidRequestError(
            f"the batch is refused: {_reason_of(captured, 'unknown reason')}", param="batch"
        )
    _forget_states(context, batch)
    left = "ask memory.seq_pos_max how much of each sequence is left"
    if code == 2:
        context._cancelled.store(False)
        raise _errors.DecodeCancelledError(f"the computation was stopped by cancel(); {left}")
    raise _errors.EngineError(f"decoding failed with code {code}: {_reason_of(captured, 'unknown reason')}; {left}")


cdef int _forget_states(Context context, Batch batch) except -1:
    """Empty the batch's sequences where a pass that failed leaves states that are half computed."""
    cdef llama.llama_memory_t memory = llama.llama_get_memory(context._ptr)
    if memory is NULL or not _has_states(context._model._ptr):
        return 0
    for sequence in _sequences_of(batch):
        llama.llama_memory_seq_rm(memory, sequence, -1, -1)
        context._forget_states(sequence)
    return 0


cdef bint _has_states(const llama.llama_model * model) noexcept nogil:
    """Tell whether sequences have recurrent states, which cannot go back."""
    return llama.llama_model_is_recurrent(model) or llama.llama_model_is_hybrid(model)
