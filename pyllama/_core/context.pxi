# A context: a model's KV memory and compute buffers. Pinned to the thread that made it, because OpenMP keeps one
# team of threads per master thread. What llama.cpp would answer with an abort is checked first, here and in the files
# that do the work: decode.pxi, outputs.pxi, state.pxi, adapter.pxi.

from libcpp.atomic cimport atomic


@cython.auto_pickle(False)
@cython.no_gc_clear
cdef class Context:
    """A model with its KV memory: decodes batches and keeps their outputs.

    Sizes: ``n_ctx`` tokens of memory (0: as trained), at most ``n_batch`` tokens a call, ``n_ubatch`` a compute step
    and ``n_outputs_max`` outputs (0: as many as tokens), sequence ids below ``n_seq_max``. ``n_threads`` and
    ``n_threads_batch`` (for more than one token) default to the usable CPUs.

    Memory: ``kv_unified`` shares one buffer among sequences, else each has its own stream of ``n_ctx / n_seq_max``
    tokens. ``type_k`` and ``type_v`` name its number formats. ``swa_full`` keeps all tokens of sliding-window layers.
    ``flash_attn`` is "auto", True or False. ``offload_kqv`` puts the memory on the GPU, ``op_offload`` large products
    with weights that are not there.

    Embeddings: ``embeddings`` keeps hidden states too, of every token, pooled per sequence as ``pooling`` says: "none",
    "mean", "cls", "last", "rank", None for the model's own. ``attention_type`` is "causal", "non-causal" or None.

    Positions, None for the model's own: ``rope_scaling_type`` is "none", "linear", "yarn" or "longrope";
    ``rope_freq_base`` and ``rope_freq_scale`` stretch the rotation, ``yarn_*`` are YaRN's parameters
    (https://arxiv.org/abs/2309.00071). ``no_perf`` leaves the times of perf() out.

    For the thread that made it only, but for cancel(); a context manager. Raises InvalidRequestError for values out of
    range, UnsupportedError for what the model cannot do and EngineError when llama.cpp refuses.
    """

    cdef llama.llama_context * _ptr
    cdef Model _model
    cdef long _pid
    cdef unsigned long _thread
    cdef int32_t _n_vocab
    cdef int64_t _n_positions    # 0: any number
    cdef uint32_t _n_outputs_max
    cdef bint _kv_unified
    cdef bint _keys_can_shift
    cdef bint _embeddings
    cdef frozenset _encoded      # the sequences that an encoder-decoder model may decode now
    cdef bint _memory_update_pending  # shifts and stream copies wait for the next decode
    cdef bint _has_logits
    cdef bint _has_embeddings
    cdef int32_t _n_rows         # tokens of the last batch that was decoded
    cdef int8_t * _outputs       # which of them have an output, n_batch of them
    cdef int _n_views            # buffers that point into llama.cpp's outputs
    cdef dict _adapters
    cdef tuple _control_vector   # rows, first layer, last layer; None without one
    cdef atomic[cbool] _cancelled

    def __cinit__(self, Model model not None, *, object n_ctx=0, object n_batch=2048, object n_ubatch=512,
                  object n_seq_max=1, object n_outputs_max=0, object n_threads=None, object n_threads_batch=None,
                  object flash_attn="auto", bint kv_unified=True, object type_k="f16", object type_v="f16",
                  bint embeddings=False, object pooling=None, object attention_type=None,
                  object rope_scaling_type=None, object rope_freq_base=None, object rope_freq_scale=None,
                  object yarn_ext_factor=None, object yarn_attn_factor=None, object yarn_beta_fast=None,
                  object yarn_beta_slow=None, object yarn_orig_ctx=None, bint swa_full=True,
                  bint offload_kqv=True, bint op_offload=True, bint no_perf=False):
        self._pid = llama.process_id()
        self._thread = PyThread_get_thread_ident()
        self._kv_unified = kv_unified
        self._embeddings = embeddings
        self._encoded = frozenset()
        self._adapters = {}
        cdef _ContextOptions options = _ContextOptions(model)
        options.set_sizes(n_ctx, n_batch, n_ubatch, n_seq_max, n_outputs_max)
        options.set_threads(n_threads, n_threads_batch)
        options.set_memory(flash_attn, kv_unified, type_k, type_v, swa_full)
        self._keys_can_shift = _keys_can_shift(model, type_k)
        options.set_embeddings(embeddings, pooling, attention_type)
        options.set_rope(rope_scaling_type, rope_freq_base, rope_freq_scale, yarn_ext_factor, yarn_attn_factor,
                         yarn_beta_fast, yarn_beta_slow, yarn_orig_ctx)
        options.params.offload_kqv = offload_kqv
        options.params.op_offload = op_offload
        options.params.no_perf = no_perf
        options.params.abort_callback = <llama.ggml_abort_callback> _is_cancelled
        options.params.abort_callback_data = &self._cancelled

        cdef log_capture capture
        cdef llama.llama_model * weights = model._ptr
        model._n_calls += 1
        try:
            with nogil:
                model._adapters_mutex.lock_shared()
                try:
                    self._ptr = llama_init_from_model(weights, options.params)
                finally:
                    model._adapters_mutex.unlock_shared()
        finally:
            model._n_calls -= 1
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

    @property
    def adapters(self) -> dict:
        """The LoRA adapters in use, with their scales."""
        self._alive()
        return dict(self._adapters)

    def decode(self, Batch batch not None):
        """Compute a batch with the KV memory, and keep the outputs it asked for until the next call.

        Raises InvalidRequestError for a bad batch (too long, unknown token or sequence, a gap in the positions),
        ContextFullError when the memory has no room, DecodeCancelledError after cancel(), EngineError when the
        computation failed.
        """
        self._alive()
        self._no_views("decode()")
        _decode(self, batch)

    def encode(self, Batch batch not None):
        """Compute a batch without the KV memory: the encoder of an encoder-decoder or embedding model.

        Every token is an output. Raises UnsupportedError for models without an encoder, else as decode().
        """
        self._alive()
        self._no_views("encode()")
        _encode(self, batch)

    def cancel(self):
        """Stop the decode() or encode() that runs, or else the next one, with DecodeCancelledError. Any thread.

        Compute steps that were done stay in the memory: ask memory.seq_pos_max(). Only what is computed on the CPU
        stops before its end.
        """
        if self._ptr is NULL:
            raise _errors.ClosedError("the context is closed")
        _check_process(self._pid, "the context")
        self._cancelled.store(True)

    cdef float * _logits_row(self, object i) except NULL:
        return _output_row(self, i, True)

    def logits(self, object i=-1):
        """Return the logits of token ``i`` of the last batch: a new float32 array of shape (n_vocab,).

        Negative indices count from the end. Raises IndexError when no output was asked for there. Waits for the
        computation.
        """
        self._alive()
        return _float_row(self._logits_row(i), self._n_vocab)

    def logits_all(self):
        """Return the logits of all outputs of the last batch, in its order: a float32 array (n_outputs, n_vocab)."""
        self._alive()
        return _output_rows(self, True)

    def logits_view(self, object i=-1):
        """Return a context manager that gives the logits of token ``i`` as a memoryview of floats, without a copy.

        The view is writable, and what is written there is what samplers see. decode() and close() raise while it
        is open. Raises IndexError as logits().
        """
        self._alive()
        self._logits_row(i)
        return LogitsView.__new__(LogitsView, self, i)

    def embeddings(self, object i=-1):
        """Return the hidden state of token ``i`` of the last batch: a new float32 array of shape (n_embd_out,).

        Needs embeddings=True and pooling="none". Raises IndexError when there is no such output.
        """
        self._alive()
        return _float_row(_output_row(self, i, False), llama.llama_model_n_embd_out(self._model._ptr))

    def embeddings_all(self):
        """Return the hidden states of all outputs of the last batch: a float32 array (n_outputs, n_embd_out)."""
        self._alive()
        return _output_rows(self, False)

    def embeddings_seq(self, object seq_id):
        """Return the pooled embedding of a sequence of the last batch: a new float32 array.

        Its shape is (n_embd_out,), or (n_classes,) with pooling="rank". Raises IndexError when the last batch had no
        such sequence.
        """
        self._alive()
        return _pooled_row(self, self._sequence(seq_id))

    def state_seq_get(self, object seq_id, *, bint partial=False):
        """Return the memory of one sequence as bytes, for state_seq_set of a like context.

        ``partial`` leaves out what seq_rm can cut at any token: only sliding windows and recurrent states are kept.
        Logits are no part of it.
        """
        self._alive()
        return _state_get(self, self._sequence(seq_id), partial, None)

    def state_seq_set(self, object seq_id, object data not None):
        """Replace one sequence by a state from state_seq_get.

        A checksum finds damage, not forgery. Raises InvalidRequestError for bytes that are no such state or of
        another model, EngineError when it does not fit here; the sequence is empty then.
        """
        self._alive()
        self._no_views("state_seq_set()")
        _state_set(self, self._sequence(seq_id), data)

    def state_get(self):
        """Return the memory of all sequences as bytes, for state_set of a like context."""
        self._alive()
        return _state_get(self, -1, False, None)

    def state_set(self, object data not None):
        """Replace all sequences by a state from state_get. Raises as state_seq_set; the memory is empty then."""
        self._alive()
        self._no_views("state_set()")
        _state_set(self, -1, data)

    def state_seq_save(self, object path not None, object seq_id, object tokens=()):
        """Write one sequence to a file, with the tokens that it holds; raises OSError when it cannot be written."""
        self._alive()
        _state_save(self, path, self._sequence(seq_id), tokens)

    def state_seq_load(self, object path not None, object seq_id):
        """Replace one sequence by a file of state_seq_save, and return its tokens as an int32 array.

        Raises as state_seq_set, and OSError when the file cannot be read.
        """
        self._alive()
        self._no_views("state_seq_load()")
        return _state_load(self, path, self._sequence(seq_id))

    def state_save(self, object path not None, object tokens=()):
        """Write all sequences to a file, with tokens of the caller's choice."""
        self._alive()
        _state_save(self, path, -1, tokens)

    def state_load(self, object path not None):
        """Replace all sequences by a file of state_save, and return its tokens as an int32 array."""
        self._alive()
        self._no_views("state_load()")
        return _state_load(self, path, -1)

    def set_adapters(self, object adapters not None):
        """Use these LoRA adapters, a mapping of LoraAdapter to scale, from the next batch on; {} for none.

        What the memory holds was computed without them: clear it. Raises InvalidRequestError for adapters of another
        model and scales that are no finite number.
        """
        self._alive()
        _set_adapters(self, dict(adapters))

    def set_control_vector(self, object data, object layers=None):
        """Add a direction to the hidden states of each layer: a float32 array (n_layer - 1, n_embd), None for none.

        Its first row belongs to layer 1: layer 0 has none. ``layers`` is the first and the last one to steer.
        """
        self._alive()
        _set_control_vector(self, data, layers)

    def set_embeddings(self, bint value):
        """Keep hidden states of every token, or do not, from the next batch on."""
        self._alive()
        if value:
            _check_pooling(self.pooling, self.n_ctx, self.n_ubatch, self.n_seq_max, self._n_outputs_max)
        llama.llama_set_embeddings(self._ptr, value)
        self._embeddings = value
        # llama.cpp reserves no buffers for the other graph by itself, only where a control vector is set.
        _apply_control_vector(self, self._control_vector)

    def set_causal_attn(self, bint value):
        """Let tokens attend to earlier ones only, or to the whole batch, from the next batch on."""
        self._alive()
        llama.llama_set_causal_attn(self._ptr, value)

    def set_n_threads(self, object n_threads, object n_threads_batch=None):
        """Use so many threads for one token, and for more than one (by default as many)."""
        self._alive()
        cdef int32_t n = <int32_t> _integer(n_threads, "n_threads", 1, 512)
        cdef int32_t n_batch = n if n_threads_batch is None else _integer(n_threads_batch, "n_threads_batch", 1, 512)
        llama.llama_set_n_threads(self._ptr, n, n_batch)

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
