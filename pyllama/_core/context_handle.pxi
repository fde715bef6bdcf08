# A context's life: made, asked for its sizes, closed. Pinned to the thread that made it, because OpenMP keeps one team
# of threads per master thread.


@cython.auto_pickle(False)
@cython.internal
@cython.no_gc_clear
cdef class _ContextHandle:
    """The part of Context that needs no batch."""

    cdef llama.llama_context * _ptr
    cdef Model _model
    cdef long _pid
    cdef unsigned long _thread
    cdef int32_t _n_vocab
    cdef int64_t _n_positions    # 0: any number
    cdef uint32_t _n_outputs_max
    cdef uint32_t _n_outputs_max_per_seq  # where the graph samples
    cdef bint _kv_unified
    cdef bint _keys_can_shift
    cdef bint _embeddings
    cdef frozenset _encoded      # the sequences that an encoder-decoder model may decode now
    cdef bint _memory_update_pending  # shifts and stream copies wait for the next decode
    cdef bint _has_logits
    cdef bint _has_embeddings
    cdef int32_t _n_rows         # tokens of the last batch that was decoded
    cdef int8_t * _outputs       # what became of each (graph_sampler.pxi), n_batch of them
    cdef int _n_views            # buffers that point into llama.cpp's outputs
    cdef dict _adapters
    cdef tuple _control_vector   # rows, first layer, last layer; None without one
    cdef set _rolled_back        # sequences whose state is an older one from the next decode on
    cdef dict _n_states          # with n_rs_seq: the tokens of each sequence in its last batch, whose states are kept
    cdef dict _graph_samplers    # by sequence
    cdef tuple _pools            # the thread pools, for one token and for more
    cdef list _retired_pools     # the next computation still looks at them
    cdef atomic[cbool] _cancelled

    def __cinit__(self, Model model not None, *, object n_ctx=0, object n_batch=2048, object n_ubatch=512,
                  object n_seq_max=1, object n_rs_seq=0, object n_outputs_max=0, object n_outputs_max_per_seq=1,
                  object n_threads=None, object n_threads_batch=None,
                  object flash_attn="auto", bint kv_unified=True, object type_k="f16", object type_v="f16",
                  bint embeddings=False, object pooling=None, object attention_type=None,
                  object rope_scaling_type=None, object rope_freq_base=None, object rope_freq_scale=None,
                  object yarn_ext_factor=None, object yarn_attn_factor=None, object yarn_beta_fast=None,
                  object yarn_beta_slow=None, object yarn_orig_ctx=None, bint swa_full=True,
                  bint offload_kqv=True, bint op_offload=True, object moe_cache_size=0, bint no_perf=False):
        self._pid = llama.process_id()
        self._thread = PyThread_get_thread_ident()
        self._kv_unified = kv_unified
        self._embeddings = embeddings
        self._encoded = frozenset()
        self._adapters = {}
        self._rolled_back = set()
        self._n_states = {}
        self._graph_samplers = {}
        self._retired_pools = []
        cdef _ContextOptions options = _ContextOptions(model)
        options.set_sizes(n_ctx, n_batch, n_ubatch, n_seq_max, n_outputs_max, n_outputs_max_per_seq)
        options.set_snapshots(n_rs_seq)
        options.set_threads(n_threads, n_threads_batch)
        options.set_memory(flash_attn, kv_unified, type_k, type_v, swa_full)
        self._keys_can_shift = _keys_can_shift(model, type_k)
        options.set_embeddings(embeddings, pooling, attention_type)
        options.set_rope(rope_scaling_type, rope_freq_base, rope_freq_scale, yarn_ext_factor, yarn_attn_factor,
                         yarn_beta_fast, yarn_beta_slow, yarn_orig_ctx)
        options.params.offload_kqv = offload_kqv
        options.params.op_offload = op_offload
        options.params.moe_cache_size = <size_t> _integer(moe_cache_size, "moe_cache_size", 0, 1 << 40)
        options.params.no_perf = no_perf
        options.params.abort_callback = <llama.ggml_abort_callback> _is_cancelled
        options.params.abort_callback_data = &self._cancelled

        cdef log_capture capture
        cdef llama.llama_model * weights = model._ptr
        model._n_calls += 1
        _enter()
        try:
            with nogil:
                model._adapters_mutex.lock_shared()
                try:
                    self._ptr = llama_init_from_model(weights, options.params)
                finally:
                    model._adapters_mutex.unlock_shared()
        finally:
            model._n_calls -= 1
            _leave()
        if self._ptr is NULL:
            raise _errors.EngineError(
                f"cannot make a context of {model!r}: {_reason(capture.text(), 'unknown reason')}"
            )
        self._model = model
        model._dependents[id(self)] = repr(self)
        self._n_vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(weights))
        self._n_positions = llama.n_learned_positions(weights)
        cdef uint32_t n_batch_used = llama.llama_n_batch(self._ptr)
        # llama.cpp gives an encoder's context as many outputs as tokens.
        self._n_outputs_max = options.params.n_outputs_max
        self._n_outputs_max_per_seq = options.params.n_outputs_max_per_seq
        if self._n_outputs_max == 0 or llama.llama_model_has_encoder(weights):
            self._n_outputs_max = n_batch_used
        self._outputs = <int8_t *> calloc(n_batch_used, 1)
        if self._outputs is NULL:
            raise MemoryError("the outputs of a context")

    def __dealloc__(self):
        cdef bint unclosed = self._ptr is not NULL and self._pid == llama.process_id()
        free(self._outputs)
        self._outputs = NULL
        self._free()
        if unclosed:
            _warn_unclosed(f"unclosed <pyllama.Context of {self._model!r}>")

    cdef int _free(self) except -1:
        cdef llama.llama_context * ptr = self._ptr
        self._ptr = NULL
        if ptr is not NULL and self._pid == llama.process_id():
            with nogil:
                llama.llama_free(ptr)
        if self._model is not None:
            self._model._dependents.pop(id(self), None)
        if self._adapters is not None:
            _release_adapters(self)
        self._graph_samplers = {}
        self._pools = None
        self._retired_pools = []
        return 0

    def __enter__(self):
        self._alive()
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        self.close()

    def __reduce_ex__(self, protocol):
        raise TypeError("a Context cannot be pickled: use state_seq_get and state_seq_set to move its sequences")

    def __repr__(self):
        if self._ptr is NULL:
            return "<pyllama.Context closed>"
        return (
            f"<pyllama.Context n_ctx={llama.llama_n_ctx(self._ptr)} "
            f"n_seq_max={llama.llama_n_seq_max(self._ptr)} at {id(self):#x}>"
        )

    cdef int _alive(self) except -1:
        if self._ptr is NULL:
            raise _errors.ClosedError("the context is closed")
        _check_process(self._pid, "the context")
        if self._thread != PyThread_get_thread_ident():
            raise _errors.EngineError(
                f"the context belongs to thread {self._thread} and was used by thread {PyThread_get_thread_ident()}: "
                "make one context per thread"
            )
        return 0

    cdef int _no_views(self, str what) except -1:
        if self._n_views:
            raise _errors.EngineError(
                f"{what} is refused while a logits view is open: leave its `with` block and drop arrays made from it"
            )
        return 0

    def close(self):
        """Free the memory. Idempotent; raises EngineError from another thread or while a logits view is open."""
        if self._ptr is NULL:
            return
        self._alive()
        self._no_views("close()")
        self._free()

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._ptr is NULL

    @property
    def model(self) -> Model:
        """The model."""
        return self._model

    @property
    def n_ctx(self) -> int:
        """Tokens of memory, over all sequences."""
        self._alive()
        return llama.llama_n_ctx(self._ptr)

    @property
    def n_ctx_seq(self) -> int:
        """Tokens of memory that one sequence can fill."""
        self._alive()
        return llama.llama_n_ctx_seq(self._ptr)

    @property
    def n_batch(self) -> int:
        """The most tokens in one decode call."""
        self._alive()
        return llama.llama_n_batch(self._ptr)

    @property
    def n_ubatch(self) -> int:
        """The most tokens in one compute step."""
        self._alive()
        return llama.llama_n_ubatch(self._ptr)

    @property
    def n_seq_max(self) -> int:
        """The number of sequences; ids are below it."""
        self._alive()
        return llama.llama_n_seq_max(self._ptr)

    @property
    def n_rs_seq(self) -> int:
        """How many tokens seq_rm can take back of a sequence with a recurrent state; 0 where the model has no way."""
        self._alive()
        return llama.llama_n_rs_seq(self._ptr)

    @property
    def n_threads(self) -> int:
        """Threads for one token."""
        self._alive()
        return llama.llama_n_threads(self._ptr)

    @property
    def n_threads_batch(self) -> int:
        """Threads for more than one token."""
        self._alive()
        return llama.llama_n_threads_batch(self._ptr)

    @property
    def memory(self) -> Memory:
        """The KV memory's sequences."""
        self._alive()
        return Memory.__new__(Memory, self)

    @property
    def pooling(self) -> str:
        """How embeddings are pooled: "none", "mean", "cls", "last" or "rank"."""
        self._alive()
        return _POOLING_NAMES[<int> llama.llama_get_pooling_type(self._ptr)]

    @property
    def causal_attn(self) -> bool:
        """Whether tokens attend to earlier tokens only."""
        self._alive()
        return bool(llama.llama_get_causal_attn(self._ptr))

    def cancel(self):
        """Stop the decode() or encode() that runs, or else the next one, with DecodeCancelledError. Any thread.

        Compute steps that were done stay in the memory: ask memory.seq_pos_max(). Only what is computed on the CPU
        stops before its end.
        """
        if self._ptr is NULL:
            raise _errors.ClosedError("the context is closed")
        _check_process(self._pid, "the context")
        self._cancelled.store(True)

    def set_n_threads(self, object n_threads, object n_threads_batch=None):
        """Use so many threads for one token, and for more than one (by default as many); not more than a pool has."""
        self._alive()
        cdef int32_t most = ggml.GGML_MAX_N_THREADS
        cdef int32_t most_batch = ggml.GGML_MAX_N_THREADS
        if self._pools is not None:
            most, most_batch = (pool.n_threads for pool in self._pools)
        cdef int32_t n = <int32_t> _integer(n_threads, "n_threads", 1, most)
        cdef object batch = n if n_threads_batch is None else n_threads_batch
        llama.llama_set_n_threads(self._ptr, n, <int32_t> _integer(batch, "n_threads_batch", 1, most_batch))

    def attach_threads(self, ThreadPool pool not None, ThreadPool pool_batch=None):
        """Compute on a pool's threads, all of them: ``pool`` for one token, ``pool_batch`` for more (default: as well).

        Only what runs on the CPU does. Raises EngineError for a pool of another thread.
        """
        self._alive()
        cdef ThreadPool batch = pool if pool_batch is None else pool_batch
        pool._usable()
        batch._usable()
        self._retire_pools()
        self._pools = (pool, batch)
        llama.llama_set_n_threads(self._ptr, pool.n_threads, batch.n_threads)
        llama.llama_attach_threadpool(self._ptr, pool._ptr, batch._ptr)

    def detach_threads(self):
        """Compute on threads of llama.cpp's own again, as many as before. Idempotent."""
        self._alive()
        self._retire_pools()
        llama.llama_detach_threadpool(self._ptr)

    cdef int _forget_states(self, object sequence) except -1:
        """No older state of a sequence is of use any more, of all with None."""
        if sequence is None:
            self._rolled_back.clear()
            self._n_states.clear()
        else:
            self._rolled_back.discard(sequence)
            self._n_states.pop(sequence, None)
        return 0

    cdef int _retire_pools(self) except -1:
        # The CPU backend pauses the pool that it used last when it meets another one.
        if self._pools is not None:
            self._retired_pools.append(self._pools)
        self._pools = None
        return 0

    def synchronize(self):
        """Wait until the last decode is computed."""
        self._alive()
        with nogil:
            llama_synchronize(self._ptr)

    def perf(self):
        """Return times in milliseconds and token counts since the context was made, or since perf_reset()."""
        self._alive()
        cdef llama.llama_perf_context_data data = llama.llama_perf_context(self._ptr)
        return _records().ContextPerf(
            data.t_load_ms, data.t_p_eval_ms, data.t_eval_ms, data.n_p_eval, data.n_eval, data.n_reused
        )

    def perf_reset(self):
        """Set the times and counts of perf() to zero."""
        self._alive()
        llama.llama_perf_context_reset(self._ptr)

    cdef llama.llama_seq_id _sequence(self, object seq_id) except -2:
        """Check a sequence id that decodes or is saved."""
        return <llama.llama_seq_id> _integer(seq_id, "seq_id", 0, <int64_t> llama.llama_n_seq_max(self._ptr) - 1)
