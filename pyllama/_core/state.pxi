# Saved memory, of one sequence or of all. llama.cpp trusts what it restores, so its bytes travel behind a header of
# ours, in memory and in files alike:
#
#   "pyllama2" | crc32 of the rest, u32 | the model's identity, u32 | its parameters, u64 | kind, u32 | n_tokens, u32
#   | tokens, n_tokens * i32 | llama.cpp's bytes
#
# The checksum finds damage; it is no protection against forgery.

from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t

import struct as _struct
import zlib as _zlib

cdef bytes _STATE_MAGIC = b"pyllama2"
cdef Py_ssize_t _STATE_HEADER = 32
_state_header = _struct.Struct("<8sIIQII")
cdef dict _STATE_KINDS = {0: "one sequence", 1: "a part of one sequence", 2: "all sequences"}


cdef llama.llama_memory_t _savable_memory(Context context) except NULL:
    cdef llama.llama_memory_t memory = llama.llama_get_memory(context._ptr)
    if memory is NULL:
        raise _errors.UnsupportedError("this model has no memory to save")
    if context._memory_update_pending:
        raise _errors.InvalidRequestError(
            "positions were shifted or sequences copied since the last decode, which applies them: decode first"
        )
    return memory


cdef int _check_all_savable(Context context, llama.llama_memory_t memory) except -1:
    """Sequences that only share cells, with ids from n_seq_max on, would leave cells without an owner behind."""
    cdef int32_t i
    if not context._kv_unified or _has_states(context._model._ptr):
        return 0
    for i in range(<int32_t> llama.llama_n_seq_max(context._ptr), SEQUENCE_LIMIT):
        if llama.llama_memory_seq_pos_max(memory, i) >= 0:
            raise _errors.InvalidRequestError(
                f"sequence {i} is not below n_seq_max={llama.llama_n_seq_max(context._ptr)} and cannot be saved: "
                "remove it first"
            )
    return 0


cdef bytes _state_get(Context context, llama.llama_seq_id seq_id, bint partial, object tokens):
    """Return the state of a sequence, or of all with seq_id -1, behind its header."""
    cdef llama.llama_memory_t memory = _savable_memory(context)
    cdef uint32_t flags = llama.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY if partial else llama.LLAMA_STATE_SEQ_FLAGS_NONE
    cdef _Tokens ids = _Tokens(() if tokens is None else tokens)
    cdef Py_ssize_t start = _STATE_HEADER + ids.n * <Py_ssize_t> sizeof(int32_t)
    cdef size_t size
    cdef size_t written
    if seq_id < 0:
        _check_all_savable(context, memory)
    with nogil:
        size = (
            llama_state_get_size(context._ptr) if seq_id < 0
            else llama_state_seq_get_size_ext(context._ptr, seq_id, flags)
        )
    cdef bytes state = PyBytes_FromStringAndSize(NULL, start + <Py_ssize_t> size)
    cdef char * out = PyBytes_AsString(state)
    cdef uint8_t * body = <uint8_t *> out + start
    if ids.n:
        memcpy(out + _STATE_HEADER, ids.data, ids.n * sizeof(int32_t))
    with nogil:
        written = (
            llama_state_get_data(context._ptr, body, size) if seq_id < 0
            else llama_state_seq_get_data_ext(context._ptr, body, size, seq_id, flags)
        )
    if written != size or size == 0:
        raise _errors.EngineError(f"the state could not be saved: {written} of {size} bytes were written")
    _write_header(context, state, 2 if seq_id < 0 else 1 if partial else 0, ids.n)
    return state


cdef int _write_header(Context context, bytes state, int kind, Py_ssize_t n_tokens) except -1:
    """Fill in the header of a bytes object that nobody else has seen yet."""
    cdef char * out = PyBytes_AsString(state)
    n_params = llama.llama_model_n_params(context._model._ptr)
    fields = [_STATE_MAGIC, 0, context._model._identity(), n_params, kind, n_tokens]
    cdef bytes header = _state_header.pack(*fields)
    memcpy(out, <const char *> header, _STATE_HEADER)
    fields[1] = _zlib.crc32(memoryview(state)[12:])
    header = _state_header.pack(*fields)
    memcpy(out, <const char *> header, _STATE_HEADER)
    return 0


cdef tuple _read_header(Context context, object view, bint whole):
    """Check a saved state, and return its kind and the number of its tokens."""
    if view.nbytes <= _STATE_HEADER or view[:8].tobytes() != _STATE_MAGIC:
        raise _errors.InvalidRequestError(f"{view.nbytes} bytes that are no saved state", param="data")
    _, crc, identity, n_params, kind, n_tokens = _state_header.unpack(view[:_STATE_HEADER])
    if _zlib.crc32(view[12:]) != crc:
        raise _errors.InvalidRequestError("the saved state is damaged: its checksum does not match", param="data")
    if identity != context._model._identity() or n_params != llama.llama_model_n_params(context._model._ptr):
        raise _errors.InvalidRequestError("the saved state belongs to another model", param="data")
    if kind not in _STATE_KINDS or (kind == 2) != whole:
        raise _errors.InvalidRequestError(
            f"the saved state holds {_STATE_KINDS.get(kind, 'something else')}, not "
            f"{'all sequences' if whole else 'one sequence'}",
            param="data",
        )
    if view.nbytes <= _STATE_HEADER + 4 * n_tokens:
        raise _errors.InvalidRequestError(f"the saved state is too short for its {n_tokens} tokens", param="data")
    return kind, n_tokens


cdef object _state_set(Context context, llama.llama_seq_id seq_id, object data):
    """Restore a sequence, or all with seq_id -1, and return the tokens that were saved with it."""
    _savable_memory(context)
    view = memoryview(data).cast("B")
    kind, n_tokens = _read_header(context, view, seq_id < 0)
    cdef uint32_t flags = (
        llama.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY if kind == 1 else llama.LLAMA_STATE_SEQ_FLAGS_NONE
    )
    cdef Py_ssize_t start = _STATE_HEADER + 4 * <Py_ssize_t> n_tokens
    cdef Py_buffer buffer
    cdef size_t n_read
    cdef size_t size
    cdef log_capture capture
    cdef const uint8_t * body
    PyObject_GetBuffer(view, &buffer, PyBUF_SIMPLE)
    try:
        body = <const uint8_t *> buffer.buf + start
        size = buffer.len - start
        context._n_rows = 0
        context._forget_states(None if seq_id < 0 else seq_id)
        with nogil:
            n_read = (
                llama_state_set_data(context._ptr, body, size) if seq_id < 0
                else llama_state_seq_set_data_ext(context._ptr, body, size, seq_id, flags)
            )
        if n_read != size:
            _empty(context, seq_id)
            reason = _reason(capture.text(), "no room, or another layout")
            where = "the memory" if seq_id < 0 else f"sequence {seq_id}"
            raise _errors.EngineError(f"the saved state does not fit into {where}: {reason}")
        return _token_array(<const int32_t *> (<const char *> buffer.buf + _STATE_HEADER), n_tokens)
    finally:
        PyBuffer_Release(&buffer)


cdef int _empty(Context context, llama.llama_seq_id seq_id) except -1:
    """Remove what a restore that failed may have left."""
    cdef llama.llama_memory_t memory = llama.llama_get_memory(context._ptr)
    if seq_id < 0:
        llama.llama_memory_clear(memory, False)
    else:
        llama.llama_memory_seq_rm(memory, seq_id, -1, -1)
    return 0


cdef int _state_save(Context context, object path, llama.llama_seq_id seq_id, object tokens) except -1:
    """Write a state to a file, which appears under its name when it is whole."""
    state = _state_get(context, seq_id, False, tokens)
    target = _os.fspath(path)
    part = target + (b".part" if isinstance(target, bytes) else ".part")
    try:
        with open(part, "wb") as file:
            file.write(state)
        _os.replace(part, target)
    except BaseException:
        if _os.path.exists(part):
            _os.unlink(part)
        raise
    return 0


cdef object _state_load(Context context, object path, llama.llama_seq_id seq_id):
    # Read, not mapped: a file that is cut while it is mapped ends the process.
    with open(path, "rb") as file:
        return _state_set(context, seq_id, file.read())
