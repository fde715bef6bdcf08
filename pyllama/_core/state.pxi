# Saved sequences. llama.cpp trusts what it restores, so the bytes carry a checksum and the shape of their model:
#
#   "pyllama1" | crc32 of the rest, u32 | n_layer, u32 | n_embd, u32 | n_params, u64 | llama.cpp's bytes

from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t

import struct as _struct
import zlib as _zlib

cdef bytes _STATE_MAGIC = b"pyllama1"
cdef Py_ssize_t _STATE_HEADER = 28
_state_shape = _struct.Struct("<IIQ")


cdef int _no_pending_update(Context context) except -1:
    if context._memory_update_pending:
        raise _errors.InvalidRequestError(
            "positions were shifted or sequences copied since the last decode, which applies them: decode first"
        )
    return 0


cdef bytes _model_shape(Context context):
    cdef const llama.llama_model * model = context._model._ptr
    return _state_shape.pack(
        llama.llama_model_n_layer(model), llama.llama_model_n_embd(model), llama.llama_model_n_params(model)
    )


cdef bytes _state_seq_get(Context context, llama.llama_seq_id seq_id):
    if llama.llama_get_memory(context._ptr) is NULL:
        raise _errors.UnsupportedError("this model has no memory to save")
    _no_pending_update(context)
    cdef size_t size
    cdef size_t written
    with nogil:
        size = llama_state_seq_get_size(context._ptr, seq_id)
    cdef bytes state = PyBytes_FromStringAndSize(NULL, _STATE_HEADER + <Py_ssize_t> size)
    cdef char * out = PyBytes_AsString(state)
    cdef bytes shape = _model_shape(context)
    memcpy(out, <const char *> _STATE_MAGIC, 8)
    memcpy(out + 12, <const char *> shape, 16)
    with nogil:
        written = llama_state_seq_get_data(context._ptr, <uint8_t *> out + _STATE_HEADER, size, seq_id)
    if written != size:
        raise _errors.EngineError(f"sequence {seq_id} could not be saved: {written} of {size} bytes were written")
    cdef bytes crc = (<object> _zlib.crc32(memoryview(state)[12:])).to_bytes(4, "little")
    memcpy(out + 8, <const char *> crc, 4)
    return state


cdef int _state_seq_set(Context context, llama.llama_seq_id seq_id, object data) except -1:
    cdef Py_buffer buffer
    cdef size_t n_read
    cdef log_capture capture
    if llama.llama_get_memory(context._ptr) is NULL:
        raise _errors.UnsupportedError("this model has no memory to restore")
    _no_pending_update(context)
    view = memoryview(data)
    if view.nbytes <= _STATE_HEADER or view[:8].tobytes() != _STATE_MAGIC:
        raise _errors.InvalidRequestError(f"{view.nbytes} bytes that are no saved state", param="data")
    if _zlib.crc32(view[12:]) != int.from_bytes(view[8:12], "little"):
        raise _errors.InvalidRequestError("the saved state is damaged: its checksum does not match", param="data")
    if view[12:28].tobytes() != _model_shape(context):
        raise _errors.InvalidRequestError("the saved state belongs to another model", param="data")
    context._n_rows = 0
    PyObject_GetBuffer(data, &buffer, PyBUF_SIMPLE)
    try:
        with nogil:
            n_read = llama_state_seq_set_data(
                context._ptr, <const uint8_t *> buffer.buf + _STATE_HEADER, buffer.len - _STATE_HEADER, seq_id
            )
    finally:
        PyBuffer_Release(&buffer)
    if n_read == 0:
        reason = _reason(capture.text(), "no room, or another layout")
        raise _errors.EngineError(f"the saved state does not fit into sequence {seq_id}: {reason}")
    return 0
