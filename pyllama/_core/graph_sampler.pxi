# Samplers that run in the context's graph, beside the model: with a GPU, no row of logits has to leave it. llama.cpp
# asserts on sizes and orders that do not fit, so each sampler is made for the candidates that reach it.

cdef frozenset _IN_GRAPH = frozenset(
    ("greedy", "dist", "top_k", "top_p", "min_p", "temp", "temp_ext", "penalties", "logit_bias")
)
# llama.cpp tries a chain on so many candidates.
cdef int64_t _TRIED_CANDIDATES = 128 * 1024
# What the context notes of a token of the last batch: it has an output, a sampler took it, its logits were not copied.
cdef int8_t _OUTPUT = 1
cdef int8_t _SAMPLED = 2
cdef int8_t _NO_LOGITS = 4


@cython.internal
@cython.final
@cython.auto_pickle(False)
cdef class _GraphSampler:
    """The chain of one sequence, as llama.cpp has it."""

    cdef llama.llama_sampler * _ptr
    cdef Context _context   # while it is built
    cdef list _names
    cdef int64_t _n         # candidates that reach the next sampler
    cdef bint _all_tokens   # whether candidate i is token i
    cdef long _pid

    def __cinit__(self, Context context not None):
        self._pid = llama.process_id()
        self._context = context
        self._names = []
        self._n = context._n_vocab
        self._all_tokens = True
        self._ptr = llama_sampler_chain_init(llama.llama_sampler_chain_default_params())

    def __dealloc__(self):
        if self._ptr is not NULL and self._pid == llama.process_id():
            llama.llama_sampler_free(self._ptr)

    cdef int add(self, object sampler) except -1:
        if not isinstance(sampler, _samplers_module().Sampler):
            raise TypeError(f"samplers must be made by pyllama.samplers, not {type(sampler).__name__}")
        self._check(sampler)
        self._names.append(sampler.name)
        seed = _drawn_seed(sampler)
        args = sampler.args if seed is None else (*sampler.args[:-1], seed)
        llama_sampler_chain_add(self._ptr, self._build(sampler.name, args, sampler.vocab))
        return 0

    cdef int _check(self, object sampler) except -1:
        name = sampler.name
        if name not in _IN_GRAPH:
            raise _errors.UnsupportedError(f"{name} cannot run in the graph; {sorted(_IN_GRAPH)} can")
        if name in self._names:
            raise _errors.InvalidRequestError(f"{name} comes twice: in the graph it can once", param="samplers")
        if self._names and self._names[-1] in _SELECTING:
            raise _errors.InvalidRequestError(
                f"{self._names[-1]} selects the token, so it must be the last sampler", param="samplers"
            )
        if sampler.vocab is not None and (<Vocab> sampler.vocab)._model is not self._context._model:
            raise _errors.InvalidRequestError(f"{name} was made for another model", param="samplers")
        if name == "logit_bias" and not self._all_tokens:
            raise _errors.InvalidRequestError(
                f"logit_bias must come before {self._names} in the graph", param="samplers"
            )
        if name in ("top_p", "min_p") and sampler.args[1] != 1:
            raise _errors.UnsupportedError(f"{name} keeps min_keep=1 candidates in the graph, not {sampler.args[1]}")
        if name == "penalties" and self._context._n_outputs_max_per_seq != 1:
            raise _errors.UnsupportedError("penalties in the graph need n_outputs_max_per_seq=1")
        return 0

    cdef llama.llama_sampler * _build(self, str name, tuple args, Vocab vocab) except NULL:
        if name == "top_k":
            return self._build_top_k(_integer(args[0], "k", -1, 2147483647))
        if name == "penalties":
            return _build_penalties(self._context._n_vocab, args)
        if name == "temp_ext" and args[0] != 0 and args[1] >= args[0]:
            raise _errors.UnsupportedError(
                f"delta={args[1]} must be below temp={args[0]} in the graph: it does not divide by 0"
            )
        if name == "temp_ext" and self._n == 1:
            name, args = "temp", args[:1]
        if name == "top_p":
            self._all_tokens = False
        if name in ("temp", "temp_ext") and args[0] == 0:
            self._n = 1
            self._all_tokens = False
        return _build_sampler(name, args, vocab)

    cdef llama.llama_sampler * _build_top_k(self, int64_t k) except NULL:
        if k <= 0 or k >= self._n:
            return llama_sampler_init_top_k(0)
        if k > _TRIED_CANDIDATES:
            raise _errors.UnsupportedError(f"k={k} must be at most {_TRIED_CANDIDATES} in the graph, or 0")
        self._n = k
        self._all_tokens = False
        return llama_sampler_init_top_k(<int32_t> k)


cdef int _set_graph_sampler(Context context, llama.llama_seq_id sequence, object samplers) except -1:
    cdef _GraphSampler built = None
    cdef llama.llama_sampler * chain = NULL
    cdef const llama.llama_model * model = context._model._ptr
    cdef cbool done
    if samplers is not None:
        if llama.llama_get_memory(context._ptr) is NULL or llama.llama_model_has_encoder(model):
            raise _errors.UnsupportedError(f"{context._model!r} has no plain decoder, whose outputs could be sampled")
        if context._embeddings:
            raise _errors.UnsupportedError("a context with embeddings=True does not sample in its graph")
        built = _GraphSampler(context)
        for sampler in samplers:
            built.add(sampler)
        if not built._names:
            raise _errors.InvalidRequestError("samplers is empty: None takes them away", param="samplers")
        built._context = None  # no circle: a context that is dropped is freed at once
        chain = built._ptr
    # What the last batch left is in buffers that fit the samplers it had.
    context._n_rows = 0
    with nogil:
        llama_synchronize(context._ptr)
        done = llama_set_sampler(context._ptr, sequence, chain)
    if built is not None and done:
        context._graph_samplers[sequence] = built
    else:
        context._graph_samplers.pop(sequence, None)
    if not done:
        raise _errors.UnsupportedError("the outputs of a model with split_mode='tensor' cannot be sampled in the graph")
    return 0


cdef int _accept_in_graph(Context context, llama.llama_seq_id sequence, object token) except -1:
    cdef _GraphSampler sampler = context._graph_samplers.get(sequence)
    if sampler is None:
        raise _errors.InvalidRequestError(f"sequence {sequence} has no sampler: set_sampler() first", param="seq_id")
    llama_sampler_accept(
        sampler._ptr, <llama.llama_token> _integer(token, "token", 0, context._n_vocab - 1)
    )
    return 0


cdef int8_t _output_flags(Context context, llama.llama_batch * b, int32_t i):
    """Tell what becomes of an output: llama.cpp samples it for the lowest of its sequences."""
    cdef int32_t j
    cdef llama.llama_seq_id lowest = b.seq_id[i][0]
    cdef bint all_sampled = True
    for j in range(b.n_seq_id[i]):
        lowest = min(lowest, b.seq_id[i][j])
        all_sampled = all_sampled and b.seq_id[i][j] in context._graph_samplers
    cdef int8_t flags = _OUTPUT
    if lowest in context._graph_samplers:
        flags |= _SAMPLED
    if all_sampled:
        flags |= _NO_LOGITS
    return flags


cdef int32_t _sampled_index(Context context, object i) except -1:
    cdef int32_t index = _output_index(context, i)
    if not context._outputs[index] & _SAMPLED:
        raise IndexError(f"output {i} was not sampled: set_sampler() for its sequence before decode()")
    return index


cdef object _sampled_token(Context context, object i):
    cdef int32_t index = _sampled_index(context, i)
    cdef llama.llama_token token
    with nogil:
        token = llama_get_sampled_token_ith(context._ptr, index)
    return _known(token)


cdef object _sampled(Context context, object i):
    """Return what the samplers left of an output, as pyllama.samplers.Candidates."""
    cdef int32_t index = _sampled_index(context, i)
    cdef float * logits
    cdef float * probabilities
    cdef const llama.llama_token * ids
    cdef uint32_t n
    cdef uint32_t n_ids
    cdef uint32_t n_probabilities
    with nogil:
        logits = llama_get_sampled_logits_ith(context._ptr, index)
        n = llama_get_sampled_logits_count_ith(context._ptr, index)
        probabilities = llama_get_sampled_probs_ith(context._ptr, index)
        n_probabilities = llama_get_sampled_probs_count_ith(context._ptr, index)
        ids = llama_get_sampled_candidates_ith(context._ptr, index)
        n_ids = llama_get_sampled_candidates_count_ith(context._ptr, index)
    # Without a list of their own, the candidates are the vocabulary.
    if logits is NULL or ids is NULL or n > <uint32_t> context._n_vocab or (n_ids or context._n_vocab) < n:
        raise _errors.EngineError(f"llama.cpp has no candidates for output {i}")
    row = _float_row(logits, n)
    possible = row > -INFINITY
    kept = row[possible]
    p = None
    if probabilities is not NULL and n_probabilities == n:
        p = _float_row(probabilities, n)[possible]
    return _samplers_module().Candidates(
        _token_array(ids, n)[possible], kept, _probabilities(kept) if p is None else p, _sampled_token(context, i)
    )
