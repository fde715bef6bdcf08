# Sampler chains at work. Any thread, one at a time: entering a busy chain raises. Native samplers run without the GIL;
# checked_chain stops in front of a custom one, which is called from here, with it.


@cython.auto_pickle(False)
@cython.no_gc_clear
cdef class SamplerChain(_SamplerList):
    """Samplers applied one after another; the last one selects the token.

    ``samplers`` come from pyllama.samplers. A chain with a grammar, or another sampler made for a vocabulary, keeps
    that model alive and open until close(). For any thread, one at a time. Raises InvalidRequestError for values out
    of range, grammars that cannot be parsed, and a selecting sampler that is not the last.
    """

    def sample(self, Context context not None, object i=-1):
        """Select a token from output ``i`` of the context's last batch, and accept it.

        ``i`` is a position in the batch, negative from the end. Raises IndexError when no output was asked for
        there, EngineError when a grammar or bias leaves no token, or when logits are NaN or +inf, and what a custom
        sampler raises; the chain stays usable.
        """
        self._usable()
        context._alive()
        if self._model is not None and self._model is not context._model:
            raise _errors.InvalidRequestError(
                f"the chain was made for {self._model!r}, and the context runs {context._model!r}"
            )
        return self._sample(context._logits_row(i), context._n_vocab)

    def sample_row(self, object logits not None):
        """Select a token from a row of logits, and accept it.

        ``logits`` is anything that NumPy takes for float32 of shape (n_vocab,); it is not changed. Raises
        InvalidRequestError for another shape, else as sample().
        """
        self._usable()
        cdef _Row row = _Row.__new__(_Row, logits)
        self._check_row(row)
        return self._sample(row.data, row.n)

    def apply(self, object logits not None):
        """Apply the samplers to a row of logits, and return the candidates that are left.

        Takes what sample_row() takes. Nothing is accepted, but samplers that draw at random do draw: use a clone
        to look without consequences. The chain need not select a token. Raises as sample_row().
        """
        self._usable()
        cdef _Row row = _Row.__new__(_Row, logits)
        self._check_row(row)
        self._busy = True
        try:
            self._apply(row.data, row.n)
            return _left(self._ptr)
        finally:
            self._busy = False

    cdef int _check_row(self, _Row row) except -1:
        if self._model is None:
            return 0
        cdef int32_t n_vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model._ptr))
        if row.n != n_vocab:
            raise _errors.InvalidRequestError(
                f"logits has {row.n} values, and the vocabulary of the chain's model {n_vocab} tokens", param="logits"
            )
        return 0

    cdef object _sample(self, const float * row, int32_t n_vocab):
        cdef llama.llama_token token
        self._busy = True
        try:
            self._apply(row, n_vocab)
            with nogil:
                token = self._ptr.accept_selected()
            self._tell_customs(token)
        finally:
            self._busy = False
        return token

    cdef int _apply(self, const float * row, int32_t n_vocab) except -1:
        cdef size_t at
        with nogil:
            at = self._ptr.load(row, n_vocab)
            at = self._ptr.apply(at)
        while at < self._ptr.size():
            self._apply_custom(at)
            with nogil:
                at = self._ptr.apply(at + 1)
        return 0

    cdef int _apply_custom(self, size_t at) except -1:
        result = self._customs[at](_column(self._ptr, False), _column(self._ptr, True))
        self._ptr.changed()
        if result is None:
            return 0
        if isinstance(result, bool):
            raise TypeError(f"a custom sampler returns None or a token, not {result!r}")
        token = _operator.index(result)
        if at + 1 != self._ptr.size():
            raise _errors.InvalidRequestError(
                f"the custom sampler at index {at} selected token {token}, but is not the last of {self!r}",
                param="samplers",
            )
        self._ptr.select(_integer(token, "token", -(1 << 62), 1 << 62))
        return 0

    cdef int _tell_customs(self, llama.llama_token token) except -1:
        for custom in self._customs:
            if custom is not None and hasattr(custom, "accept"):
                custom.accept(token)
        return 0

    def accept(self, object token):
        """Tell the samplers that a token was chosen, by them or otherwise; sample() does it itself.

        Raises InvalidRequestError for a token outside the vocabulary, or that a grammar of the chain does not allow.
        """
        self._usable()
        cdef int64_t last = 2147483647
        if self._model is not None:
            last = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model._ptr)) - 1
        cdef llama.llama_token c_token = <llama.llama_token> _integer(token, "token", 0, last)
        self._busy = True
        try:
            with nogil:
                self._ptr.accept(c_token)
            self._tell_customs(c_token)
        finally:
            self._busy = False

    def reset(self):
        """Forget all tokens: grammars start again, and seeded samplers return to their seed.

        Samplers without a seed draw a new one. Custom samplers that have a method reset() are told.
        """
        self._alive()
        cdef Py_ssize_t i
        for i in range(len(self._samplers)):
            sampler = self._samplers[i]
            if self._seeds[i] is not None and _wants_seed(sampler.args[-1]):
                self._ptr.erase(i)
                del self._samplers[i], self._seeds[i], self._customs[i]
                self._insert(i, sampler)
        self._busy = True
        try:
            with nogil:
                self._ptr.reset()
            for custom in self._customs:
                if custom is not None and hasattr(custom, "reset"):
                    custom.reset()
        finally:
            self._busy = False

    def clone(self):
        """Return a copy with the same state: grammars where they are, and random generators, too.

        Only adaptive_p's generator starts from its seed again. A custom sampler is copied by its method clone() where
        it has one, else shared.
        """
        self._usable()
        return SamplerChain.__new__(SamplerChain, self)

    def perf(self):
        """Return the time spent in samplers (custom ones excepted) and the number of tokens accepted."""
        self._alive()
        return _records().SamplerPerf(self._ptr.time_us() / 1000, self._ptr.n_accepted())


@cython.internal
@cython.final
@cython.auto_pickle(False)
cdef class _Row:
    """A row of logits from Python, as float32."""

    cdef Py_buffer buffer
    cdef bint held
    cdef const float * data
    cdef int32_t n

    def __cinit__(self, object logits):
        numpy = _numpy()
        row = numpy.require(logits, dtype=numpy.float32, requirements="C")
        if row.ndim != 1 or not 1 <= row.size <= 2147483647:
            raise _errors.InvalidRequestError(
                f"logits must have the shape (n_vocab,), not {row.shape}", param="logits"
            )
        PyObject_GetBuffer(row, &self.buffer, PyBUF_C_CONTIGUOUS)
        self.held = True
        self.data = <const float *> self.buffer.buf
        self.n = <int32_t> row.size

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.buffer)
