# What every handle shares: the process it belongs to, values from Python, and buffers to and from NumPy.

from array import array as _array

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBUF_ND,
    PyBUF_SIMPLE,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_CheckBuffer,
    PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_WarnEx
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset, strcmp, strlen

import os as _os

cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident()

# Positions stay below this, so that no sum of two of them overflows in llama.cpp.
cdef int64_t POSITION_LIMIT = 1 << 30
cdef int SEQUENCE_LIMIT = <int> llama.llama_max_parallel_sequences()

cdef bint _llama_ready = False
_numpy_module = None
_records_module = None


cdef int _ensure_llama() except -1:
    """Load the backends and take the log over, once per process, before the first call into llama.cpp."""
    global _llama_ready
    if not _llama_ready:
        with nogil:
            install_log()
            llama.load_backends()
            llama.llama_backend_init()
        _llama_ready = True
    return 0


cdef object _numpy():
    global _numpy_module
    if _numpy_module is None:
        import numpy
        _numpy_module = numpy
    return _numpy_module


cdef object _records():
    """Return the module of what methods answer with."""
    global _records_module
    if _records_module is None:
        from pyllama import records
        _records_module = records
    return _records_module


cdef int _check_process(long pid, str what) except -1:
    if pid != llama.process_id():
        raise _errors.EngineError(
            f"{what} was made in process {pid} and cannot be used after fork, in process {llama.process_id()}: "
            "make a new one in the child"
        )
    return 0


cdef int _warn_unclosed(str message) except -1:
    """Say that a handle was forgotten; from __dealloc__, where the handle itself can no longer be named."""
    PyErr_WarnEx(ResourceWarning, message.encode("utf-8", "replace"), 1)
    return 0


cdef int64_t _integer(object value, str name, int64_t low, int64_t high) except? -1:
    """Return an integer argument, which must lie in [low, high]."""
    cdef int64_t result
    if isinstance(value, float):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    try:
        result = value
    except OverflowError:
        raise _errors.InvalidRequestError(f"{name}={value} must be in [{low}, {high}]", param=name) from None
    if result < low or result > high:
        raise _errors.InvalidRequestError(f"{name}={value} must be in [{low}, {high}]", param=name)
    return result


cdef double _real(object value, str name, double low, double high) except? -1:
    """Return a real argument, which must lie in [low, high] and so is no NaN."""
    cdef double result = value
    if not low <= result <= high:
        raise _errors.InvalidRequestError(f"{name}={value} must be in [{low:g}, {high:g}]", param=name)
    return result


cdef object _choice(dict table, object value, str name):
    try:
        return table[value]
    except (KeyError, TypeError):
        allowed = ", ".join(repr(key) for key in table)
        raise _errors.InvalidRequestError(f"{name}={value!r} must be one of {allowed}", param=name) from None


cdef bytes _utf8(str text, str name):
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _errors.InvalidRequestError(
            f"{name} holds a lone surrogate at index {error.start}: it is no Unicode text", param=name
        ) from None


cdef str _reason(const string & captured, str otherwise):
    """Turn captured error lines into one line: the first, without its C function's name, and what belongs to it."""
    return _reason_of(_text(captured), otherwise)


cdef str _reason_of(str captured, str otherwise):
    if not captured:
        return otherwise
    lines = captured.splitlines()
    first = lines[0]
    head, colon, rest = first.partition(": ")
    if colon and head.replace("_", "").replace(":", "").isalnum():
        first = rest
    details = [line.strip().lstrip("- ") for line in lines[1:] if line.startswith((" ", "\t"))]
    return " ".join([first.strip(), *details])


ctypedef int32_t (*_text_reader)(const void * handle, int32_t i, char * buf, size_t size) noexcept nogil


cdef str _read_text(_text_reader read, const void * handle, int32_t i):
    """Read one entry of a handle's metadata through llama.cpp's function for it, whatever its length."""
    cdef int32_t size = 256
    cdef int32_t length
    while True:
        buffer = bytearray(size)
        length = read(handle, i, buffer, size)
        if length < size:
            return bytes(buffer[: max(length, 0)]).decode("utf-8", "replace")
        size = length + 1


cdef object _token_array(const int32_t * tokens, Py_ssize_t n):
    """Copy tokens into a new int32 array of shape (n,)."""
    cdef Py_buffer buffer
    result = _numpy().empty(n, dtype="int32")
    PyObject_GetBuffer(result, &buffer, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS)
    if n:
        memcpy(buffer.buf, tokens, n * sizeof(int32_t))
    PyBuffer_Release(&buffer)
    return result


cdef object _float_row(const float * row, Py_ssize_t n):
    """Copy a row of floats into a new float32 array of shape (n,)."""
    cdef Py_buffer buffer
    numpy = _numpy()
    result = numpy.empty(n, dtype=numpy.float32)
    PyObject_GetBuffer(result, &buffer, PyBUF_WRITABLE | PyBUF_C_CONTIGUOUS)
    memcpy(buffer.buf, row, n * sizeof(float))
    PyBuffer_Release(&buffer)
    return result


@cython.internal
@cython.final
@cython.auto_pickle(False)
cdef class _Tokens:
    """Token ids read from a NumPy array or from any sequence of integers, as one block of int32."""

    cdef Py_buffer buffer
    cdef bint held
    cdef object storage
    cdef const int32_t * data
    cdef Py_ssize_t n

    def __cinit__(self, object tokens):
        if isinstance(tokens, (bytes, bytearray, str)):
            raise TypeError(f"tokens must be integers, not {type(tokens).__name__}")
        if not PyObject_CheckBuffer(tokens):
            self._hold(self._packed(tokens))
            return
        try:
            PyObject_GetBuffer(tokens, &self.buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        except (BufferError, ValueError):
            # Not contiguous: NumPy makes a copy that is.
            PyObject_GetBuffer(_numpy().ascontiguousarray(tokens), &self.buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        self.held = True
        self._read()

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.buffer)

    cdef int _hold(self, object storage) except -1:
        PyObject_GetBuffer(storage, &self.buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        self.held = True
        self.data = <const int32_t *> self.buffer.buf
        self.n = self.buffer.len // sizeof(int32_t)
        return 0

    cdef object _packed(self, object tokens):
        try:
            return _array("i", tokens)
        except OverflowError:
            raise _errors.InvalidRequestError("tokens must fit into 32 bits", param="tokens") from None

    cdef int _read(self) except -1:
        cdef const char * form = self.buffer.format
        if self.buffer.ndim != 1:
            raise _errors.InvalidRequestError(
                f"tokens must have one dimension, not {self.buffer.ndim}", param="tokens"
            )
        if strcmp(form, "i") == 0 or (strcmp(form, "l") == 0 and self.buffer.itemsize == 4):
            self.data = <const int32_t *> self.buffer.buf
            self.n = self.buffer.len // sizeof(int32_t)
            return 0
        if strcmp(form, "l") == 0 or strcmp(form, "q") == 0:
            return self._narrow()
        if strlen(form) != 1 or form[0] not in b"bBhHILQ":
            raise TypeError(f"tokens must be integers, not of format {form.decode()!r}")
        values = memoryview(self.buffer.obj).tolist() if self.buffer.obj is not None else []
        PyBuffer_Release(&self.buffer)
        self.held = False
        return self._hold(self._packed(values))

    cdef int _narrow(self) except -1:
        cdef const int64_t * wide = <const int64_t *> self.buffer.buf
        cdef Py_ssize_t n = self.buffer.len // sizeof(int64_t)
        cdef Py_ssize_t i
        cdef bytearray storage = bytearray(n * sizeof(int32_t))
        cdef int32_t * narrow = <int32_t *> <void *> <char *> storage
        for i in range(n):
            if wide[i] < -2147483648 or wide[i] > 2147483647:
                raise _errors.InvalidRequestError(f"tokens[{i}]={wide[i]} does not fit into 32 bits", param="tokens")
            narrow[i] = <int32_t> wide[i]
        self.storage = storage
        self.data = narrow
        self.n = n
        return 0
