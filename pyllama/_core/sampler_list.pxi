# The list of samplers in a chain, and its life: made, changed, closed. Any thread, one at a time.


@cython.auto_pickle(False)
@cython.internal
@cython.no_gc_clear
cdef class _SamplerList:
    """The part of SamplerChain that needs no logits."""

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
        if isinstance(samplers, _SamplerList):
            self._copy(samplers)
            return
        _ensure_llama()
        self._ptr = new checked_chain(NULL)
        for sampler in samplers:
            self._insert(len(self._samplers), sampler)

    cdef int _copy(self, _SamplerList other) except -1:
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


_samplers_python = None


cdef object _samplers_module():
    global _samplers_python
    if _samplers_python is None:
        from pyllama import samplers
        _samplers_python = samplers
    return _samplers_python
