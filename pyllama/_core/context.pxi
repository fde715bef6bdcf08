# A context: a model's KV memory and compute buffers. Pinned to the thread that made it, because OpenMP keeps one
# team of threads per master thread. What llama.cpp would answer with an abort is checked here first.


@cython.auto_pickle(False)
@cython.no_gc_clear
cdef class Context:
    """A model with its KV memory: decodes batches and keeps their outputs.

    ``n_ctx`` tokens of memory (0: as trained), at most ``n_batch`` tokens a call and ``n_ubatch`` a compute step,
    sequence ids below ``n_seq_max``. ``n_threads`` and ``n_threads_batch`` (for more than one token) default to
    the usable CPUs. ``flash_attn`` is "auto", True or False. ``kv_unified`` shares one buffer among sequences, else
    each has its own stream of ``n_ctx / n_seq_max`` tokens. ``type_k`` and ``type_v`` name the memory's number
    formats. ``embeddings`` keeps hidden states too, of every token, pooled per sequence as ``pooling`` says: "none",
    "mean", "cls", "last", "rank", None for the model's own. ``swa_full`` keeps all tokens of sliding-window layers.
    ``offload_kqv`` puts the memory on the GPU.

    For the thread that made it only; a context manager. Raises InvalidRequestError for values out of range and
    EngineError when llama.cpp refuses.
    """

    cdef llama.llama_context * _ptr
    cdef Model _model
    cdef long _pid
    cdef unsigned long _thread
    cdef int32_t _n_vocab
    cdef bint _kv_unified
    cdef bint _embeddings
    cdef bint _encoded       # an encoder-decoder model may decode now
    cdef bint _memory_update_pending  # shifts and stream copies wait for the next decode
    cdef bint _has_logits
    cdef int32_t _n_rows     # tokens of the last batch that was decoded
    cdef int8_t * _outputs   # which of them have an output, n_batch of them
    cdef int _n_views        # buffers that point into llama.cpp's outputs

    def __cinit__(self, Model model not None, *, object n_ctx=0, object n_batch=2048, object n_ubatch=512,
                  object n_seq_max=1, object n_threads=None, object n_threads_batch=None, object flash_attn="auto",
                  bint kv_unified=True, object type_k="f16", object type_v="f16", bint embeddings=False,
                  object pooling=None, bint swa_full=True, bint offload_kqv=True):
        model._alive()
        self._pid = llama.process_id()
        self._thread = PyThread_get_thread_ident()
        self._kv_unified = kv_unified
        self._embeddings = embeddings
        if model.vocab_only:
            raise _errors.InvalidRequestError(f"{model!r} was loaded with vocab_only=True: it has no weights to run")
        architecture = model.meta.get("general.architecture")
        if architecture in _DRAFT_ARCHITECTURES:
            raise _errors.UnsupportedError(f"{model!r} ({architecture}) is a draft model and cannot run alone")

        cdef llama.llama_context_params params = llama.llama_context_default_params()
        params.n_ctx = <uint32_t> _integer(n_ctx, "n_ctx", 0, 1 << 30)
        params.n_batch = <uint32_t> _integer(n_batch, "n_batch", 1, 1 << 22)
        params.n_ubatch = <uint32_t> _integer(n_ubatch, "n_ubatch", 1, 1 << 22)
        params.n_seq_max = <uint32_t> _integer(n_seq_max, "n_seq_max", 1, SEQUENCE_LIMIT)
        if n_threads is None:
            n_threads = _default_threads()
        if n_threads_batch is None:
            n_threads_batch = n_threads
        params.n_threads = <int32_t> _integer(n_threads, "n_threads", 1, 512)
        params.n_threads_batch = <int32_t> _integer(n_threads_batch, "n_threads_batch", 1, 512)
        cdef int pooling_type = _choice(_POOLING_TYPES, pooling, "pooling")
        cdef int flash_attn_type = _choice(_FLASH_ATTN_TYPES, flash_attn, "flash_attn")
        cdef int k = _choice(_KV_TYPES, type_k, "type_k")
        cdef int v = _choice(_KV_TYPES, type_v, "type_v")
        params.pooling_type = <llama.llama_pooling_type> pooling_type
        params.flash_attn_type = <llama.llama_flash_attn_type> flash_attn_type
        params.type_k = <llama.ggml_type> k
        params.type_v = <llama.ggml_type> v
        params.embeddings = embeddings
        params.offload_kqv = offload_kqv
        params.no_perf = False
        params.swa_full = swa_full
        params.kv_unified = kv_unified
        _check_head_size(model, params.type_k, "type_k", type_k)
        _check_head_size(model, params.type_v, "type_v", type_v)
        if embeddings:
            _check_pooling(model, &params, pooling)

        cdef log_capture capture
        cdef llama.llama_model * weights = model._ptr
        model._n_calls += 1
        try:
            with nogil:
                self._ptr = llama_init_from_model(weights, params)
        finally:
            model._n_calls -= 1
        if self._ptr is NULL:
            raise _errors.EngineError(
                f"cannot make a context of {model!r}: {_reason(capture.text(), 'unknown reason')}"
            )
        self._model = model
        model._dependents[id(self)] = repr(self)
        self._n_vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(weights))
        self._outputs = <int8_t *> calloc(llama.llama_n_batch(self._ptr), 1)
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

    cdef int _check_batch(self, Batch batch, bint encode) except -1:
        """Refuse what llama.cpp would abort on, and name what it would only refuse."""
        cdef llama.llama_batch * b = &batch._batch
        cdef int32_t limit = <int32_t> llama.llama_n_batch(self._ptr)
        cdef int32_t n_seq_max = <int32_t> llama.llama_n_seq_max(self._ptr)
        cdef int32_t i
        cdef int32_t j
        if batch._busy:
            raise _errors.EngineError("the batch is being decoded by another thread")
        if b.n_tokens == 0:
            raise _errors.InvalidRequestError("the batch is empty", param="batch")
        if b.n_tokens > limit:
            raise _errors.InvalidRequestError(
                f"the batch holds {b.n_tokens} tokens, and n_batch is {limit}", param="batch"
            )
        limit = <int32_t> llama.llama_n_ubatch(self._ptr)
        if b.n_tokens > limit and (encode or not llama.llama_get_causal_attn(self._ptr)):
            raise _errors.InvalidRequestError(
                f"the batch holds {b.n_tokens} tokens, which this model must take in one step: n_ubatch is {limit}",
                param="batch",
            )
        for i in range(b.n_tokens):
            if b.token[i] < 0 or b.token[i] >= self._n_vocab:
                raise _errors.InvalidRequestError(
                    f"token {b.token[i]} at index {i} is outside the vocabulary of {self._n_vocab} tokens",
                    param="batch",
                )
            for j in range(b.n_seq_id[i]):
                if b.seq_id[i][j] >= n_seq_max:
                    raise _errors.InvalidRequestError(
                        f"sequence {b.seq_id[i][j]} at index {i} is not below n_seq_max={n_seq_max}", param="batch"
                    )
        return 0

    cdef int _compute(self, Batch batch, bint encode) except -1:
        cdef llama.llama_batch c_batch = batch._batch
        cdef llama.llama_context * ptr = self._ptr
        cdef log_capture capture
        cdef int32_t code
        cdef int32_t i
        self._n_rows = 0
        batch._busy = True
        try:
            with nogil:
                if encode:
                    code = llama_encode(ptr, c_batch)
                else:
                    code = llama_decode(ptr, c_batch)
        finally:
            batch._busy = False
        if code == 1:
            raise _errors.ContextFullError(
                f"no room in the KV memory for {c_batch.n_tokens} more tokens (n_ctx is {llama.llama_n_ctx(ptr)}); "
                "nothing was changed: remove sequences, or decode a smaller batch"
            )
        if code == -1:
            raise _errors.InvalidRequestError(
                f"the batch is refused: {_reason(capture.text(), 'unknown reason')}", param="batch"
            )
        if code != 0:
            raise _errors.EngineError(
                f"decoding failed with code {code}: {_reason(capture.text(), 'unknown reason')}; "
                "ask memory.seq_pos_max how much of each sequence is left"
            )
        for i in range(c_batch.n_tokens):
            self._outputs[i] = encode or self._embeddings or c_batch.logits[i]
        self._n_rows = c_batch.n_tokens
        self._has_logits = not encode
        return 0

    def decode(self, Batch batch not None):
        """Compute a batch with the KV memory, and keep the outputs it asked for until the next call.

        Raises InvalidRequestError for a bad batch (too long, unknown token or sequence, a gap in the positions),
        ContextFullError when the memory has no room, EngineError when the computation failed.
        """
        self._alive()
        self._no_views("decode()")
        # Without memory (BERT and the like) there is only one kind of pass.
        cdef bint encode = llama.llama_get_memory(self._ptr) is NULL
        self._check_batch(batch, encode)
        if not encode and not self._encoded and llama.llama_model_has_encoder(self._model._ptr):
            raise _errors.InvalidRequestError("this model decodes only after encode()")
        self._compute(batch, encode)
        if not encode:
            self._memory_update_pending = False

    def encode(self, Batch batch not None):
        """Compute a batch without the KV memory: the encoder of an encoder-decoder or embedding model.

        Every token is an output. Raises UnsupportedError for models without an encoder, else as decode().
        """
        self._alive()
        self._no_views("encode()")
        if llama.llama_get_memory(self._ptr) is not NULL and not llama.llama_model_has_encoder(self._model._ptr):
            raise _errors.UnsupportedError(f"{self._model!r} has no encoder: use decode()")
        self._check_batch(batch, True)
        self._compute(batch, True)
        self._encoded = True

    cdef int32_t _row(self, object i) except -1:
        """Turn a position in the batch, negative from the end, into an index that has an output."""
        cdef int64_t index
        if self._n_rows == 0:
            raise IndexError(f"no output {i}: nothing was decoded yet, or the last decode failed")
        try:
            index = i
        except OverflowError:
            index = self._n_rows
        if index < 0:
            index += self._n_rows
        if index < 0 or index >= self._n_rows:
            raise IndexError(f"no output {i}: the last batch had {self._n_rows} tokens")
        if not self._outputs[index]:
            raise IndexError(f"no output {i}: token {index} of the last batch was added with logits=False")
        return <int32_t> index

    cdef float * _logits_row(self, object i) except NULL:
        cdef int32_t index = self._row(i)
        if not self._has_logits:
            raise IndexError(f"no logits {i}: the last call was an encoder's, which has embeddings only")
        cdef float * row
        with nogil:
            row = llama_get_logits_ith(self._ptr, index)
        if row is NULL:
            raise _errors.EngineError(f"llama.cpp has no logits for token {index} of the last batch")
        return row

    def logits(self, object i=-1):
        """Return the logits of token ``i`` of the last batch: a new float32 array of shape (n_vocab,).

        Negative indices count from the end. Raises IndexError when no output was asked for there. Waits for the
        computation.
        """
        self._alive()
        return _float_row(self._logits_row(i), self._n_vocab)

    def logits_view(self, object i=-1):
        """Return a context manager that gives the logits of token ``i`` as a memoryview of floats, without a copy.

        The view is writable, and what is written there is what samplers see. decode() and close() raise while it
        is open. Raises IndexError as logits().
        """
        self._alive()
        self._row(i)
        return LogitsView.__new__(LogitsView, self, i)

    def embeddings(self, object i=-1):
        """Return the hidden state of token ``i`` of the last batch: a new float32 array of shape (n_embd,).

        Needs embeddings=True and pooling="none". Raises IndexError when there is no such output.
        """
        self._alive()
        if not self._embeddings:
            raise _errors.InvalidRequestError("the context was made with embeddings=False")
        if llama.llama_get_pooling_type(self._ptr) != llama.LLAMA_POOLING_TYPE_NONE:
            raise _errors.InvalidRequestError(
                "the context pools its embeddings: use embeddings_seq(), or pooling='none'"
            )
        cdef int32_t index = self._row(i)
        cdef float * row
        with nogil:
            row = llama_get_embeddings_ith(self._ptr, index)
        if row is NULL:
            raise _errors.EngineError(f"llama.cpp has no embeddings for token {index} of the last batch")
        return _float_row(row, llama.llama_model_n_embd_out(self._model._ptr))

    def embeddings_seq(self, object seq_id):
        """Return the pooled embedding of a sequence of the last batch: a new float32 array.

        Its shape is (n_embd,), or (n_classes,) with pooling="rank". Raises IndexError when the last batch had no
        such sequence.
        """
        self._alive()
        if not self._embeddings:
            raise _errors.InvalidRequestError("the context was made with embeddings=False")
        cdef llama.llama_pooling_type pooling = llama.llama_get_pooling_type(self._ptr)
        if pooling == llama.LLAMA_POOLING_TYPE_NONE:
            raise _errors.InvalidRequestError("the context does not pool its embeddings: use embeddings()")
        cdef llama.llama_seq_id sequence = self._sequence(seq_id)
        cdef float * row = NULL
        if self._n_rows:
            with nogil:
                row = llama_get_embeddings_seq(self._ptr, sequence)
        if row is NULL:
            raise IndexError(f"no embedding of sequence {sequence}: it was not in the last batch")
        if pooling == llama.LLAMA_POOLING_TYPE_RANK:
            return _float_row(row, llama.llama_model_n_cls_out(self._model._ptr))
        return _float_row(row, llama.llama_model_n_embd_out(self._model._ptr))

    cdef llama.llama_seq_id _sequence(self, object seq_id) except -2:
        """Check a sequence id that decodes or is saved."""
        return <llama.llama_seq_id> _integer(seq_id, "seq_id", 0, <int64_t> llama.llama_n_seq_max(self._ptr) - 1)

    def state_seq_get(self, object seq_id):
        """Return the KV memory of one sequence as bytes, for state_seq_set of a like context."""
        self._alive()
        return _state_seq_get(self, self._sequence(seq_id))

    def state_seq_set(self, object seq_id, object data not None):
        """Replace one sequence by a state from state_seq_get.

        Raises InvalidRequestError for bytes that are no such state or of another model, EngineError when it does
        not fit here; the sequence is empty then.
        """
        self._alive()
        self._no_views("state_seq_set()")
        _state_seq_set(self, self._sequence(seq_id), data)

    def synchronize(self):
        """Wait until the last decode is computed."""
        self._alive()
        with nogil:
            llama_synchronize(self._ptr)

    def perf(self):
        """Return times in milliseconds and token counts since the context was made, as a dict."""
        self._alive()
        cdef llama.llama_perf_context_data data = llama.llama_perf_context(self._ptr)
        return {
            "load_ms": data.t_load_ms,
            "prompt_ms": data.t_p_eval_ms,
            "decode_ms": data.t_eval_ms,
            "n_prompt": data.n_p_eval,
            "n_decode": data.n_eval,
            "n_reused": data.n_reused,
        }
