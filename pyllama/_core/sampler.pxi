# Sampler chains. Any thread, one at a time: entering a busy chain raises.

from libc.math cimport INFINITY, isnan
from libc.stdlib cimport realloc

cdef enum _pick:
    PICK_NAN = -1
    PICK_NOTHING_ALLOWED = -2
    PICK_NOT_SELECTED = -3
    PICK_REFUSED = -4


@cython.auto_pickle(False)
@cython.no_gc_clear
cdef class SamplerChain:
    """Samplers applied one after another; the last one, and only it, selects the token.

    ``samplers`` come from pyllama.samplers. A chain with a grammar, or another sampler made for a vocabulary, keeps
    that model alive and open until close(). Raises InvalidRequestError for values out of range, grammars that cannot
    be parsed, and chains that select nothing.
    """

    cdef llama.llama_sampler * _ptr
    cdef tuple _samplers
    cdef Model _model
    cdef long _pid
    cdef bint _busy
    cdef bint _broken
    cdef vector[int32_t] _grammars
    cdef llama.llama_token_data * _candidates
    cdef int32_t _n_candidates

    def __cinit__(self, object samplers not None):
        self._pid = llama.process_id()
        if isinstance(samplers, SamplerChain):
            self._copy(samplers)
            return
        self._samplers = tuple(samplers)
        self._check_order()
        for sampler in self._samplers:
            self._use_vocab(sampler)
        _ensure_llama()
        self._ptr = llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        for i, sampler in enumerate(self._samplers):
            llama_sampler_chain_add(self._ptr, _build_sampler(sampler.name, sampler.args, sampler.vocab))
            if sampler.name == "grammar":
                self._grammars.push_back(i)
        self._register()

    cdef int _check_order(self) except -1:
        for sampler in self._samplers:
            if not isinstance(sampler, _sampler_type()):
                raise TypeError(f"a sampler chain is made of pyllama.samplers, not of {type(sampler).__name__}")
        names = [sampler.name for sampler in self._samplers]
        if not names or names[-1] not in _SELECTING:
            raise _errors.InvalidRequestError(
                f"the sampler chain {names} selects no token: end it with one of {sorted(_SELECTING)}", param="samplers"
            )
        for name in names[:-1]:
            if name in _SELECTING:
                raise _errors.InvalidRequestError(
                    f"{name} selects the token, so it must be the last sampler of the chain {names}", param="samplers"
                )
        return 0

    cdef int _use_vocab(self, object sampler) except -1:
        if sampler.vocab is None:
            return 0
        cdef Vocab vocab = sampler.vocab
        vocab._model._alive()
        if self._model is not None and self._model is not vocab._model:
            raise _errors.InvalidRequestError(
                f"the chain's samplers belong to two models, {self._model!r} and {vocab._model!r}", param="samplers"
            )
        self._model = vocab._model
        return 0

    cdef int _copy(self, SamplerChain other) except -1:
        self._samplers = other._samplers
        self._model = other._model
        self._grammars = other._grammars
        self._ptr = llama_sampler_clone(other._ptr)
        return self._register()

    cdef int _register(self) except -1:
        if self._model is not None:
            self._model._dependents[id(self)] = repr(self)
        return 0

    def __dealloc__(self):
        self._free()
        free(self._candidates)

    cdef int _free(self) except -1:
        cdef llama.llama_sampler * ptr = self._ptr
        self._ptr = NULL
        if ptr is not NULL and self._pid == llama.process_id():
            with nogil:
                llama.llama_sampler_free(ptr)
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
            raise _errors.EngineError("the sampler chain is in use by another thread: give each thread a clone")
        return 0

    cdef int _usable(self) except -1:
        self._alive()
        if self._broken:
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

    def __len__(self):
        return len(self._samplers)

    def __getitem__(self, object index):
        if isinstance(index, slice):
            raise TypeError("a sampler chain is indexed by one integer")
        try:
            return self._samplers[index].name
        except IndexError:
            raise IndexError(f"no sampler {index} in a chain of {len(self._samplers)}") from None

    def sample(self, Context context not None, object i=-1):
        """Select a token from output ``i`` of the context's last batch, and accept it.

        ``i`` is a position in the batch, negative from the end. Raises IndexError when no output was asked for
        there, EngineError when a grammar or bias leaves no token, or when logits are NaN.
        """
        self._usable()
        context._alive()
        if self._model is not None and self._model is not context._model:
            raise _errors.InvalidRequestError(
                f"the chain was made for {self._model!r}, and the context runs {context._model!r}"
            )
        cdef const float * row = context._logits_row(i)
        self._reserve(context._n_vocab)
        cdef int64_t token = 0
        self._busy = True
        self._broken = True
        try:
            with nogil:
                token = self._select(row, context._n_vocab)
            self._broken = False
        finally:
            self._busy = False
        if token >= 0:
            return token
        if token == PICK_NAN:
            raise _errors.EngineError(f"the logits of output {i} hold NaN")
        if token == PICK_NOTHING_ALLOWED:
            raise _errors.EngineError(f"the samplers of {self!r} leave no token that is allowed")
        if token == PICK_REFUSED:
            raise _errors.EngineError(f"the grammar of {self!r} does not allow the token that was selected")
        raise _errors.EngineError(f"{self!r} selected no token")

    cdef int _reserve(self, int32_t n_vocab) except -1:
        if self._n_candidates >= n_vocab:
            return 0
        cdef void * grown = realloc(self._candidates, <size_t> n_vocab * sizeof(llama.llama_token_data))
        if grown is NULL:
            raise MemoryError(f"{n_vocab} candidates")
        self._candidates = <llama.llama_token_data *> grown
        self._n_candidates = n_vocab
        return 0

    cdef int64_t _select(self, const float * row, int32_t n_vocab) except? -1 nogil:
        """Apply the chain to a row of logits and accept the token; a negative value is a _pick."""
        cdef llama.llama_token_data_array candidates
        cdef int32_t i
        cdef int32_t n = llama.llama_sampler_chain_n(self._ptr)
        cdef bint broken = False
        for i in range(n_vocab):
            self._candidates[i].id = i
            self._candidates[i].logit = row[i]
            self._candidates[i].p = 0
            broken |= isnan(row[i])
        if broken:
            return PICK_NAN
        candidates.data = self._candidates
        candidates.size = n_vocab
        candidates.selected = -1
        candidates.sorted = False
        for i in range(n):
            if not _any_allowed(&candidates):
                return PICK_NOTHING_ALLOWED
            llama_sampler_apply(llama.llama_sampler_chain_get(self._ptr, i), &candidates)
        if candidates.selected < 0 or candidates.selected >= <int64_t> candidates.size:
            return PICK_NOT_SELECTED
        cdef llama.llama_token token = candidates.data[candidates.selected].id
        if not self._grammars_allow(token):
            return PICK_REFUSED
        llama_sampler_accept(self._ptr, token)
        return token

    cdef bint _grammars_allow(self, llama.llama_token token) except -1 nogil:
        """llama.cpp ends the process when a grammar is given an end token that it does not allow."""
        cdef llama.llama_token_data candidate
        cdef llama.llama_token_data_array candidates
        cdef size_t i
        for i in range(self._grammars.size()):
            candidate.id = token
            candidate.logit = 0
            candidate.p = 0
            candidates.data = &candidate
            candidates.size = 1
            candidates.selected = -1
            candidates.sorted = False
            llama_sampler_apply(llama.llama_sampler_chain_get(self._ptr, self._grammars[i]), &candidates)
            if candidate.logit == -INFINITY:
                return False
        return True

    def accept(self, object token):
        """Tell the samplers that a token was chosen, by them or otherwise; sample() does it itself.

        Raises InvalidRequestError for a token that a grammar of the chain does not allow.
        """
        self._usable()
        cdef llama.llama_token c_token
        cdef int64_t last
        cdef bint allowed = False
        if self._model is not None:
            last = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model._ptr)) - 1
            c_token = <llama.llama_token> _integer(token, "token", 0, last)
        else:
            c_token = <llama.llama_token> _integer(token, "token", 0, 2147483647)
        self._busy = True
        self._broken = True
        try:
            with nogil:
                allowed = self._grammars_allow(c_token)
                if allowed:
                    llama_sampler_accept(self._ptr, c_token)
            self._broken = False
        finally:
            self._busy = False
        if not allowed:
            raise _errors.InvalidRequestError(f"the grammar of {self!r} does not allow token {token}", param="token")

    def reset(self):
        """Forget all tokens: grammars start again, and seeded samplers return to their seed."""
        self._alive()
        self._busy = True
        try:
            with nogil:
                llama_sampler_reset(self._ptr)
            self._broken = False
        finally:
            self._busy = False

    def clone(self):
        """Return a copy with the same state: grammars where they are, random generators included."""
        self._usable()
        return SamplerChain.__new__(SamplerChain, self)


cdef bint _any_allowed(const llama.llama_token_data_array * candidates) noexcept nogil:
    cdef size_t i
    for i in range(candidates.size):
        if candidates.data[i].logit > -INFINITY:
            return True
    return False


_sampler_class = None


cdef object _sampler_type():
    global _sampler_class
    if _sampler_class is None:
        from pyllama.samplers import Sampler
        _sampler_class = Sampler
    return _sampler_class
