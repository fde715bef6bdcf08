# Logits without a copy. The buffer's exports are counted on the context, so an array that outlives the `with` block
# keeps decode() and close() from pulling the memory away under it.

cdef const char * _FLOAT_FORMAT = b"f"


@cython.auto_pickle(False)
@cython.final
cdef class LogitsView:
    """The context manager of ``Context.logits_view``; entering gives a memoryview of shape (n_vocab,)."""

    cdef Context _context
    cdef object _index
    cdef object _memory
    cdef float * _row
    cdef Py_ssize_t _shape
    cdef int _n_exports
    cdef Py_ssize_t _stride

    def __cinit__(self, Context context not None, object index):
        self._context = context
        self._index = index
        self._stride = sizeof(float)
        self._shape = context._n_vocab

    def __reduce_ex__(self, protocol):
        raise TypeError("a LogitsView cannot be pickled")

    def __enter__(self):
        self._context._alive()
        if self._memory is not None:
            raise _errors.EngineError("this logits view is open already")
        self._row = self._context._logits_row(self._index)
        self._memory = memoryview(self)
        return self._memory

    def __exit__(self, exc_type, exc_value, traceback):
        memory = self._memory
        self._memory = None
        self._row = NULL
        if memory is None:
            return
        try:
            memory.release()
        except BufferError:
            pass  # counted below, with the arrays that hold the buffer in other ways
        if self._n_exports and exc_type is None:
            raise _errors.EngineError(
                "an array made from the logits view outlives its `with` block: copy what you keep"
            )

    def __getbuffer__(self, Py_buffer * buffer, int flags):
        if self._row is NULL:
            raise BufferError("the logits view is not open")
        self._context._n_views += 1
        self._n_exports += 1
        buffer.buf = self._row
        buffer.obj = self
        buffer.len = self._shape * sizeof(float)
        buffer.itemsize = sizeof(float)
        buffer.readonly = 0
        buffer.ndim = 1
        buffer.format = <char *> _FLOAT_FORMAT if flags & PyBUF_FORMAT else NULL
        buffer.shape = &self._shape if flags & PyBUF_ND else NULL
        buffer.strides = &self._stride if (flags & PyBUF_STRIDES) == PyBUF_STRIDES else NULL
        buffer.suboffsets = NULL
        buffer.internal = NULL

    def __releasebuffer__(self, Py_buffer * buffer):
        self._context._n_views -= 1
        self._n_exports -= 1
