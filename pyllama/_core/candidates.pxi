# What is left of a row of logits inside a sampler chain, for Python. Arrays made from it keep the memory, so that they
# may outlive the call they were made for: the chain takes new memory for its next token then.

from cpython.buffer cimport PyBUF_WRITABLE
from libc.math cimport INFINITY


@cython.internal
@cython.final
@cython.auto_pickle(False)
cdef class _Column:
    """One field of all candidates as a strided buffer."""

    cdef shared_ptr[vector[llama.llama_token_data]] _memory
    cdef void * _first
    cdef Py_ssize_t _shape
    cdef Py_ssize_t _stride
    cdef const char * _format
    cdef bint _readonly

    def __getbuffer__(self, Py_buffer * buffer, int flags):
        if (flags & PyBUF_STRIDES) != PyBUF_STRIDES:
            raise BufferError("the candidates' fields are not contiguous")
        if self._readonly and flags & PyBUF_WRITABLE == PyBUF_WRITABLE:
            raise BufferError("the candidates' ids are read-only")
        buffer.buf = self._first
        buffer.obj = self
        buffer.len = self._shape * 4
        buffer.itemsize = 4
        buffer.readonly = self._readonly
        buffer.ndim = 1
        buffer.format = <char *> self._format
        buffer.shape = &self._shape
        buffer.strides = &self._stride
        buffer.suboffsets = NULL
        buffer.internal = NULL


cdef object _column(checked_chain * chain, bint of_ids):
    """Return the ids (int32, read-only) or the logits (float32) of the chain's candidates, without a copy."""
    cdef llama.llama_token_data_array * candidates = &chain.candidates()
    cdef _Column column = _Column.__new__(_Column)
    column._memory = chain.buffer()
    column._first = <void *> &candidates.data[0].id if of_ids else <void *> &candidates.data[0].logit
    column._shape = <Py_ssize_t> candidates.size
    column._stride = sizeof(llama.llama_token_data)
    column._format = b"i" if of_ids else b"f"
    column._readonly = of_ids
    return _numpy().asarray(column)


cdef object _left(checked_chain * chain):
    """Return the candidates that are still possible, as pyllama.samplers.Candidates."""
    cdef llama.llama_token_data_array * candidates = &chain.candidates()
    logits = _column(chain, False)
    possible = logits > -INFINITY
    kept = logits[possible]
    selected = None
    if 0 <= candidates.selected < <int64_t> candidates.size:
        selected = candidates.data[candidates.selected].id
    return _samplers_module().Candidates(_column(chain, True)[possible], kept, _probabilities(kept), selected)


cdef object _probabilities(object logits):
    """Return the softmax of a row, as float32."""
    numpy = _numpy()
    if not len(logits):
        return logits
    p = numpy.exp(logits - logits.max(), dtype=numpy.float64)
    return (p / p.sum()).astype(numpy.float32)
