# What a context does. What llama.cpp would answer with an abort is checked first, in the files that do the work:
# decode.pxi, outputs.pxi, state.pxi, adapter.pxi, graph_sampler.pxi.


@cython.auto_pickle(False)
@cython.no_gc_clear
cdef class Context(_ContextHandle):
    """A model with its KV memory: decodes batches and keeps their outputs.

    Sizes: ``n_ctx`` tokens of memory (0: as trained), at most ``n_batch`` tokens a call, ``n_ubatch`` a compute step
    and ``n_outputs_max`` outputs (0: as many as tokens), ``n_outputs_max_per_seq`` of a sequence with a set_sampler();
    sequence ids below ``n_seq_max``. ``n_threads`` and ``n_threads_batch`` (for more than one token) default to the
    usable CPUs.

    Memory: ``kv_unified`` shares one buffer among sequences, else each has its own stream of ``n_ctx / n_seq_max``
    tokens. ``type_k`` and ``type_v`` name its number formats. ``swa_full`` keeps all tokens of sliding-window layers.
    ``flash_attn`` is "auto", True or False. ``offload_kqv`` puts the memory on the GPU, ``op_offload`` large products
    with weights that are not there; ``moe_cache_size`` bytes of it keep experts whose weights are not. ``n_rs_seq``
    older recurrent states of each sequence are kept, so that seq_rm can take back as many tokens.

    Embeddings: ``embeddings`` keeps hidden states too, of every token, pooled per sequence as ``pooling`` says: "none",
    "mean", "cls", "last", "rank", None for the model's own. ``attention_type`` is "causal", "non-causal" or None.

    Positions, None for the model's own: ``rope_scaling_type`` is "none", "linear", "yarn" or "longrope";
    ``rope_freq_base`` and ``rope_freq_scale`` stretch the rotation, ``yarn_*`` are YaRN's parameters
    (https://arxiv.org/abs/2309.00071). ``no_perf`` leaves the times of perf() out.

    For the thread that made it only, but for cancel(); a context manager. Raises InvalidRequestError for values out of
    range, UnsupportedError for what the model cannot do and EngineError when llama.cpp refuses.
    """

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

    def set_sampler(self, object seq_id, object samplers):
        """Sample the outputs of a sequence inside decode(), where the model computes; None for no longer.

        ``samplers`` come from pyllama.samplers: greedy, dist, top_k, top_p, min_p, temp, temp_ext, penalties and
        logit_bias can, each once. The outputs of the last batch are gone then, and those of the sequence have no
        logits from now on. A batch may ask for ``n_outputs_max_per_seq`` outputs of it. Raises UnsupportedError
        for other samplers and for models and contexts that cannot, InvalidRequestError for bad values.
        """
        self._alive()
        self._no_views("set_sampler()")
        _set_graph_sampler(self, self._sequence(seq_id), samplers)

    def sampled_token(self, object i=-1):
        """Return the token that the graph selected for token ``i`` of the last batch; None where no sampler selects.

        It is not accepted: accept() does that. Raises IndexError as logits(), and for an output without a sampler.
        """
        self._alive()
        return _sampled_token(self, i)

    def sampled(self, object i=-1):
        """Return what the samplers in the graph left of output ``i``. Raises as sampled_token()."""
        self._alive()
        return _sampled(self, i)

    def accept(self, object seq_id, object token):
        """Tell a sequence's samplers in the graph that a token was chosen: penalties count it."""
        self._alive()
        _accept_in_graph(self, self._sequence(seq_id), token)

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
        if value and self._graph_samplers:
            raise _errors.UnsupportedError("a context whose sequences have samplers cannot keep embeddings")
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
