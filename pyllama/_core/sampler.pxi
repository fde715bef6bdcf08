# Sampler chains. Any thread, one at a time: entering a busy chain raises. Native samplers run without the GIL;
# checked_chain stops in front of a custom one, which is called from here, with it.

from libc.math cimport INFINITY


@cython.auto_pickle(False)
@cython.no_gc_clear
cdef class SamplerChain:
    """Samplers applied one after another; the last one selects the token.

    ``samplers`` come from pyllama.samplers. A chain with a grammar, or another sampler made for a vocabulary, keeps
    that model alive and open until close(). For any thread, one at a time. Raises InvalidRequestError for values out
    of range, grammars that cannot be parsed, and a selecting sampler that is not the last.
    """

    cdef checked_chain * _ptr
    cdef list _samplers
    cdef list _seeds    # of each sampler, None where it draws nothing
    cdef list _customs  # of each sampler, the function of a custom one
    cdef Model _model
    cdef long _pid
    cdef bint _busy

    def __cinit__(self, object samplers=()):
        self._pid = llama.process_id()
        self._samplers = []
        self._seeds = []
        self._customs = []
        if isinstance(samplers, SamplerChain):
            self._copy(samplers)
            return
        _ensure_llama()
        self._ptr = new checked_chain(NULL)
        for sampler in samplers:
            self._insert(len(self._samplers), sampler)

    cdef int _copy(self, SamplerChain other) except -1:
        self._ptr = other._ptr.clone().release()
        self._samplers = list(other._samplers)
        self._seeds = list(other._seeds)
        self._customs = [getattr(custom, "clone", lambda custom=custom: custom)() for custom in other._customs]
        self._model = other._model
        return self._register()

    cdef int _insert(self, Py_ssize_t at, object sampler) except -1:
        cdef llama.llama_sampler * built = NULL
        cdef int32_t k = 0
        if not isinstance(sampler, _samplers_module().Sampler):
            raise TypeError(f"a sampler chain is made of pyllama.samplers, not of {type(sampler).__name__}")
        name = sampler.name
        cdef sampler_kind kind = _sampler_kind(name, sampler.args)
        self._check_place(at, name)
        self._check_vocab(sampler)
        seed = _drawn_seed(sampler)
        custom = None
        if kind == sampler_kind.custom:
            custom = sampler.args[0]
            if not callable(custom):
                raise TypeError(f"a custom sampler must be callable, not {type(custom).__name__}")
        else:
            args = sampler.args if seed is None else (*sampler.args[:-1], seed)
            built = _build_sampler(name, args, sampler.vocab)
            if kind == sampler_kind.top_k:
                k = sampler.args[0]
        self._ptr.insert(at, name.encode(), kind, k, built)
        self._samplers.insert(at, sampler)
        self._seeds.insert(at, seed)
        self._customs.insert(at, custom)
        return self._register()

    cdef int _check_place(self, Py_ssize_t at, str name) except -1:
        names = [sampler.name for sampler in self._samplers]
        names.insert(at, name)
        for earlier in names[:-1]:
            if earlier in _SELECTING:
                raise _errors.InvalidRequestError(
                    f"{earlier} selects the token, so it must be the last sampler of the chain {names}",
                    param="samplers",
                )
        return 0

    cdef int _check_vocab(self, object sampler) except -1:
        if sampler.vocab is None:
            return 0
        cdef Vocab vocab = sampler.vocab
        vocab._model._alive()
        if self._model is not None and self._model is not vocab._model:
            raise _errors.InvalidRequestError(
                f"the chain's samplers belong to two models, {self._model!r} and {vocab._model!r}", param="samplers"
            )
        return 0

    cdef int _register(self) except -1:
        """Keep the model of the samplers that need one open, and no other."""
        cdef Vocab vocab = None
        for sampler in self._samplers:
            if sampler.vocab is not None:
                vocab = sampler.vocab
                break
        if self._model is not None:
            self._model._dependents.pop(id(self), None)
        self._model = None
        self._ptr.set_vocab(NULL)
        if vocab is not None:
            self._model = vocab._model
            self._model._dependents[id(self)] = repr(self)
            self._ptr.set_vocab(vocab._ptr)
        return 0

    def __dealloc__(self):
        self._free()

    cdef int _free(self) except -1:
        cdef checked_chain * ptr = self._ptr
        self._ptr = NULL
        if ptr is not NULL and self._pid == llama.process_id():
            with nogil:
                del ptr
        if self._model is not None:
            self._model._dependents.pop(id(self), None)
        return 0

    def __enter__(self):
        self._alive()
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        self.close()

    def __reduce_ex__(self, protocol):
        raise TypeError("a SamplerChain cannot be pickled: make it from the same samplers again")

    def __repr__(self):
        names = ", ".join(sampler.name for sampler in self._samplers or ())
        return f"<pyllama.SamplerChain [{names}]{' closed' if self._ptr is NULL else ''}>"

    cdef int _alive(self) except -1:
        if self._ptr is NULL:
            raise _errors.ClosedError("the sampler chain is closed")
        _check_process(self._pid, "the sampler chain")
        if self._busy:
            raise _errors.EngineError(
                "the sampler chain is in use, by another thread or by its own custom sampler: clone it"
            )
        return 0

    cdef int _usable(self) except -1:
        self._alive()
        if self._ptr.broken():
            raise _errors.EngineError("the sampler chain failed before and must be reset()")
        return 0

    def close(self):
        """Free the samplers. Idempotent; a chain that is dropped frees itself."""
        if self._ptr is not NULL:
            self._alive()
            self._free()

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._ptr is NULL

    @property
    def names(self) -> tuple:
        """The samplers' names, in their order."""
        return tuple(sampler.name for sampler in self._samplers)

    @property
    def seed(self) -> "int | None":
        """The seed of the last sampler that draws at random, also where it chose one; None when none draws."""
        for seed in reversed(self._seeds):
            if seed is not None:
                return seed
        return None

    def __len__(self):
        return len(self._samplers)

    cdef Py_ssize_t _index(self, object index) except -1:
        cdef Py_ssize_t n = len(self._samplers)
        cdef int64_t at
        if isinstance(index, slice):
            raise TypeError("a sampler chain is indexed by one integer")
        try:
            at = index
        except OverflowError:
            at = n
        if at < 0:
            at += n
        if at < 0 or at >= n:
            raise IndexError(f"no sampler {index} in a chain of {n}")
        return <Py_ssize_t> at

    def __getitem__(self, object index):
        return self._samplers[self._index(index)]

    def append(self, object sampler not None):
        """Add a sampler at the end. Raises as the constructor does."""
        self._alive()
        self._insert(len(self._samplers), sampler)

    def insert(self, object index, object sampler not None):
        """Add a sampler in front of that at ``index``, as list.insert does. Raises as the constructor does."""
        self._alive()
        cdef Py_ssize_t n = len(self._samplers)
        cdef int64_t at = _integer(index, "index", -(1 << 31), 1 << 31)
        self._insert(<Py_ssize_t> (max(0, at + n) if at < 0 else min(at, n)), sampler)

    def remove(self, object index):
        """Remove the sampler at ``index``, with its state, and return it. Raises IndexError."""
        self._alive()
        cdef Py_ssize_t at = self._index(index)
        self._ptr.erase(at)
        del self._seeds[at]
        del self._customs[at]
        sampler = self._samplers.pop(at)
        self._register()
        return sampler

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


_samplers_python = None


cdef object _samplers_module():
    global _samplers_python
    if _samplers_python is None:
        from pyllama import samplers
        _samplers_python = samplers
    return _samplers_python
