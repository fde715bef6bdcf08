# What a context keeps of the last batch: rows of logits and of hidden states.


cdef int32_t _output_index(Context context, object i) except -1:
    """Turn a position in the batch, negative from the end, into an index that has an output."""
    cdef int64_t index
    cdef int32_t n = context._n_rows
    if n == 0:
        raise IndexError(f"no output {i}: nothing was decoded yet, or the last decode failed")
    try:
        index = i
    except OverflowError:
        index = n
    if index < 0:
        index += n
    if index < 0 or index >= n:
        raise IndexError(f"no output {i}: the last batch had {n} tokens")
    if not context._outputs[index]:
        raise IndexError(f"no output {i}: token {index} of the last batch was added with logits=False")
    return <int32_t> index


cdef int _check_kept(Context context, bint logits) except -1:
    """Check that the last batch left this kind of rows."""
    if logits:
        if context._n_rows and not context._has_logits:
            raise IndexError("no logits: the last call was an encoder's, which has embeddings only")
        return 0
    if not context._embeddings:
        raise _errors.InvalidRequestError("the context was made with embeddings=False")
    if llama.llama_get_pooling_type(context._ptr) != llama.LLAMA_POOLING_TYPE_NONE:
        raise _errors.InvalidRequestError(
            "the context pools its embeddings: use embeddings_seq(), or pooling='none'"
        )
    if context._n_rows and not context._has_embeddings:
        raise IndexError("no embeddings: they were switched on after the last batch")
    return 0


cdef float * _output_row(Context context, object i, bint logits) except NULL:
    _check_kept(context, logits)
    cdef int32_t index = _output_index(context, i)
    if logits and context._outputs[index] & _NO_LOGITS:
        raise IndexError(f"no logits {i}: the graph sampled this output, see sampled()")
    cdef float * row
    with nogil:
        row = llama_get_logits_ith(context._ptr, index) if logits else llama_get_embeddings_ith(context._ptr, index)
    if row is NULL:
        raise _errors.EngineError(f"llama.cpp has no output for token {index} of the last batch")
    return row


cdef object _output_rows(Context context, bint logits):
    """Copy the rows of all outputs into a new float32 array, in the batch's order."""
    cdef Py_ssize_t width = context._n_vocab if logits else llama.llama_model_n_embd_out(context._model._ptr)
    cdef Py_ssize_t n = 0
    cdef int32_t i
    cdef Py_buffer buffer
    _check_kept(context, logits)
    for i in range(context._n_rows):
        n += context._outputs[i] != 0
    numpy = _numpy()
    rows = numpy.empty((n, width), dtype=numpy.float32)
    PyObject_GetBuffer(rows, &buffer, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS)
    cdef float * out = <float *> buffer.buf
    try:
        for i in range(context._n_rows):
            if context._outputs[i]:
                memcpy(out, _output_row(context, i, logits), width * sizeof(float))
                out += width
    finally:
        PyBuffer_Release(&buffer)
    return rows


cdef object _pooled_row(Context context, llama.llama_seq_id sequence):
    if not context._embeddings:
        raise _errors.InvalidRequestError("the context was made with embeddings=False")
    cdef llama.llama_pooling_type pooling = llama.llama_get_pooling_type(context._ptr)
    if pooling == llama.LLAMA_POOLING_TYPE_NONE:
        raise _errors.InvalidRequestError("the context does not pool its embeddings: use embeddings()")
    cdef float * row = NULL
    if context._n_rows:
        with nogil:
            row = llama_get_embeddings_seq(context._ptr, sequence)
    if row is NULL:
        raise IndexError(f"no embedding of sequence {sequence}: it was not in the last batch")
    if pooling == llama.LLAMA_POOLING_TYPE_RANK:
        return _float_row(row, llama.llama_model_n_cls_out(context._model._ptr))
    return _float_row(row, llama.llama_model_n_embd_out(context._model._ptr))
