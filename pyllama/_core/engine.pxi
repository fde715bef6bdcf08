# The engine: model, slot loop and render thread behind a handle.

cdef class Prepared:
    """A request that is validated, rendered through the chat template and tokenised; submitted once."""

    cdef shared_ptr[c_prepared_request] handle
    cdef readonly str content_type
    cdef readonly str dialect

    def __init__(self) -> None:
        raise TypeError("prepared requests are made by Engine.prepare_chat() and its like")

    cdef c_prepared_request * alive(self) except NULL:
        if self.handle.get() == NULL:
            raise _errors.ClosedError("this request was submitted already")
        return self.handle.get()

    @property
    def id(self) -> str:
        """The completion's id."""
        return _text(self.alive().id)

    @property
    def stream(self) -> bool:
        """Whether the client asked for a stream."""
        return self.alive().stream

    @property
    def receipt(self) -> bytes:
        """For an answer that is made in the background: JSON that says so, to answer with at once. Else empty."""
        return self.alive().receipt

    @property
    def sse_ping_interval(self) -> int:
        """Seconds of silence before a keep-alive comment; zero or less: none."""
        return self.alive().sse_ping_interval

    @property
    def n_prompt_tokens(self) -> int:
        """Length of the prompt in tokens; of all inputs together for embeddings."""
        cdef c_prepared_request * request = self.alive()
        cdef size_t n = request.tokens.size()
        cdef size_t i
        for i in range(request.inputs.size()):
            n += request.inputs[i].size()
        return n


cdef Prepared _prepared(shared_ptr[c_prepared_request] made, str dialect):
    cdef Prepared prepared = Prepared.__new__(Prepared)
    prepared.handle = made
    prepared.content_type = _text(c_content_type(deref(made)))
    prepared.dialect = dialect
    return prepared


cdef c_dialect _dialect(str name, bint raw) except *:
    if name == "openai":
        return c_dialect.openai
    if name == "deltas":
        return c_dialect.deltas
    if name == "paddler":
        return c_dialect.paddler
    if name == "native" and raw:
        return c_dialect.native
    if name == "responses" and not raw:
        return c_dialect.responses
    if name == "anthropic" and not raw:
        return c_dialect.anthropic
    raise _errors.InvalidRequestError(f"unknown dialect {name!r}", param="dialect")


_TEXT_REQUESTS = {
    "tokenize": <int> c_text_request.tokenize,
    "detokenize": <int> c_text_request.detokenize,
    "apply_template": <int> c_text_request.apply_template,
    "count_tokens": <int> c_text_request.count_tokens,
    "count_responses_tokens": <int> c_text_request.count_responses_tokens,
    "count_anthropic_tokens": <int> c_text_request.count_anthropic_tokens,
}


cdef class LoadProgress:
    """How far an Engine's load is, to be watched from other threads than the one that loads."""

    cdef shared_ptr[c_load_progress] state

    def __cinit__(self) -> None:
        self.state = make_shared[c_load_progress]()

    @property
    def value(self) -> float:
        """Share of the weights that is loaded, from 0 to 1."""
        return deref(self.state).value.load()

    def stop(self) -> None:
        """Let the load raise ModelLoadError at the next tensor; once the engine is there it does nothing."""
        deref(self.state).stop.store(True)


cdef class Engine:
    """A loaded model with its slot loop. Every method may be called from any thread.

    The load runs on the calling thread, with the GIL released. Raises ModelLoadError when the model cannot be used
    or ``progress`` was told to stop.
    """

    cdef shared_ptr[c_engine] handle
    cdef int pid

    def __init__(self, ServerParams params not None, LoadProgress progress=None) -> None:
        cdef shared_ptr[c_engine] made
        cdef LoadProgress watched = LoadProgress() if progress is None else progress
        with nogil:
            made = c_make_engine(params.params, deref(watched.state))
        self.handle = made
        self.pid = _os.getpid()

    cdef int check(self) except -1:
        if self.handle.get() == NULL:
            raise _errors.ClosedError("the engine is closed")
        if self.pid != _os.getpid():
            raise _errors.ClosedError("the engine belongs to the process that made it; its threads do not survive fork")
        return 0

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self.handle.get() == NULL

    @property
    def n_slots(self) -> int:
        """Requests that run at the same time."""
        self.check()
        return deref(self.handle).n_slots()

    @property
    def n_ctx_slot(self) -> int:
        """Most tokens of one request, prompt and answer together."""
        self.check()
        return deref(self.handle).n_ctx_slot()

    def prepare_chat(self, bytes body not None, str dialect="openai") -> Prepared:
        """Validate and tokenise a chat request given as JSON.

        ``dialect`` says whose JSON it is, and what the answer looks like: "openai", "responses", "anthropic", or
        "deltas" and "paddler" for OpenAI's request and other answers.

        Takes milliseconds, with the GIL released. Raises InvalidRequestError naming the field, and
        ContextLengthError with both counts.
        """
        cdef string text = body
        cdef c_dialect which = _dialect(dialect, False)
        cdef shared_ptr[c_engine] engine
        cdef shared_ptr[c_prepared_request] made
        self.check()
        engine = self.handle
        with nogil:
            made = c_prepare(deref(engine), text, which)
        return _prepared(made, dialect)

    def prepare_completion(self, bytes body not None, str dialect="native") -> Prepared:
        """Validate and tokenise a raw completion given as JSON; dialect is "native", "openai", "deltas" or "paddler".

        As prepare_chat, without a chat template: the text of the answer passes through as it is.
        """
        cdef string text = body
        cdef c_dialect which = _dialect(dialect, True)
        cdef shared_ptr[c_engine] engine
        cdef shared_ptr[c_prepared_request] made
        self.check()
        engine = self.handle
        with nogil:
            made = c_prepare_raw(deref(engine), text, which)
        return _prepared(made, dialect)

    def prepare_infill(self, bytes body not None) -> Prepared:
        """Validate and tokenise a fill-in-the-middle request given as JSON; its answer is in the native dialect.

        As prepare_completion. Raises UnsupportedError when the model has no markers for it.
        """
        cdef string text = body
        cdef shared_ptr[c_engine] engine
        cdef shared_ptr[c_prepared_request] made
        self.check()
        engine = self.handle
        with nogil:
            made = c_prepare_fill(deref(engine), text)
        return _prepared(made, "native")

    def prepare_embeddings(self, bytes body not None, str dialect="openai") -> Prepared:
        """Validate and tokenise a request for embeddings given as JSON; dialect is "native" or "openai".

        Raises UnsupportedError when the engine was made without --embeddings, InvalidRequestError naming the field,
        ContextLengthError with both counts.
        """
        cdef string text = body
        cdef c_dialect which = _dialect(dialect, True)
        cdef shared_ptr[c_engine] engine
        cdef shared_ptr[c_prepared_request] made
        self.check()
        if dialect in ("deltas", "paddler"):
            raise _errors.InvalidRequestError(f"unknown dialect {dialect!r}", param="dialect")
        engine = self.handle
        with nogil:
            made = c_prepare_embeddings(deref(engine), text, which)
        return _prepared(made, dialect)

    def prepare_rerank(self, bytes body not None) -> Prepared:
        """Validate and tokenise a rerank request given as JSON; raises as prepare_embeddings."""
        cdef string text = body
        cdef shared_ptr[c_engine] engine
        cdef shared_ptr[c_prepared_request] made
        self.check()
        engine = self.handle
        with nogil:
            made = c_prepare_ranks(deref(engine), text)
        return _prepared(made, "openai")

    def prepare_decision(self, bytes body not None) -> Prepared:
        """Validate and tokenise a decision request given as JSON: a state, and typed questions about it.

        Raises UnsupportedError when the model is no decision model, InvalidRequestError naming the field,
        ContextLengthError with both counts.
        """
        cdef string text = body
        cdef shared_ptr[c_engine] engine
        cdef shared_ptr[c_prepared_request] made
        self.check()
        engine = self.handle
        with nogil:
            made = c_prepare_decisions(deref(engine), text)
        return _prepared(made, "native")

    def answer_text(self, str kind not None, bytes body not None) -> bytes:
        """Answer what needs no slot.

        ``kind`` is "tokenize", "detokenize", "apply_template", "count_tokens", "count_responses_tokens" or
        "count_anthropic_tokens". JSON in and out, as llama-server's endpoints of these names. Takes milliseconds, with
        the GIL released. Raises InvalidRequestError naming the field.
        """
        cdef string text = body
        cdef string answer
        cdef c_text_request which
        cdef shared_ptr[c_engine] engine
        self.check()
        if kind not in _TEXT_REQUESTS:
            raise _errors.InvalidRequestError(f"unknown kind {kind!r}", param="kind")
        which = <c_text_request> <int> _TEXT_REQUESTS[kind]
        engine = self.handle
        with nogil:
            answer = c_answer_text(deref(engine), which, text)
        return answer

    def tokenize(self, str text not None, bint add_special=False, bint parse_special=True) -> list:
        """Return the token ids of a text; ``add_special`` puts the model's own around it."""
        fields = {"content": text, "add_special": add_special, "parse_special": parse_special}
        return _json.loads(self.answer_text("tokenize", _json.dumps(fields).encode()))["tokens"]

    def detokenize(self, tokens) -> str:
        """Return the text of token ids, control tokens included; what is no whole character becomes U+FFFD."""
        body = _json.dumps({"tokens": [int(token) for token in tokens]}).encode()
        return _json.loads(self.answer_text("detokenize", body))["content"]

    def submit(
        self, Prepared prepared not None, Waker waker=None, uint64_t key=0, bytes owner=b"", object priority=None
    ) -> Stream:
        """Queue a prepared request; its stream exists from now on. Never waits for a step.

        With a waker, ``key`` is marked there on each change. ``owner`` says whose paused requests count together.
        ``priority`` is what the request has in the queue unless it asks for less; None: what it asks for, else 0.
        Raises EngineBusyError when the queue is full and EngineUnavailableError after shutdown().
        """
        cdef string whose = owner
        cdef optional[int32_t] rank
        cdef shared_ptr[c_engine] engine
        cdef c_submitted made
        cdef c_prepared_request * request
        self.check()
        request = prepared.alive()
        engine = self.handle
        if priority is not None:
            rank = <int32_t> priority
        with nogil:
            made = c_submit(deref(engine), deref(request), whose, rank)
        prepared.handle.reset()
        cdef Stream stream = Stream.__new__(Stream)
        stream.handle = made
        stream.engine = engine
        stream.content_type = prepared.content_type
        stream.dialect = prepared.dialect
        if waker is not None:
            stream.subscribe(waker, key)
        return stream

    def metrics(self) -> dict:
        """Return the engine's counters and gauges."""
        self.check()
        return _json.loads(c_metrics_json(deref(self.handle)))

    def histograms(self) -> dict:
        """Return the engine's histograms by name: ``bounds``, ``counts`` (one more: what is above), ``sum``."""
        self.check()
        return _json.loads(c_histograms_json(deref(self.handle)))

    def slots(self) -> list:
        """Return what each slot does. Waits for the running step, with the GIL released."""
        cdef string text
        cdef shared_ptr[c_engine] engine
        self.check()
        engine = self.handle
        with nogil:
            text = c_slots_json(deref(engine))
        return _json.loads(text)

    def props(self) -> dict:
        """Return what /props shows."""
        self.check()
        return _json.loads(c_props_json(deref(self.handle)))

    def model_info(self) -> dict:
        """Return the model's facts, as /v1/models shows them."""
        self.check()
        return _json.loads(c_model_info_json(deref(self.handle)))

    @property
    def sleeping(self) -> bool:
        """Whether model and memory are given away until the next request (--sleep-idle-seconds)."""
        self.check()
        return deref(self.handle).sleeping()

    def lora_adapters(self) -> list:
        """Return the LoRA adapters with the scales that hold for requests without their own.

        Wakes a sleeping engine, with the GIL released.
        """
        cdef string text
        cdef shared_ptr[c_engine] engine
        self.check()
        engine = self.handle
        with nogil:
            text = c_lora_adapters_json(deref(engine))
        return _json.loads(text)

    def set_lora_adapters(self, bytes body not None) -> None:
        """Set those scales from a JSON list of {"id", "scale"}; adapters that it does not name get 0.

        They hold for requests that are submitted from now on. Raises InvalidRequestError naming the field.
        """
        cdef string text = body
        cdef shared_ptr[c_engine] engine
        self.check()
        engine = self.handle
        with nogil:
            c_set_lora_adapters(deref(engine), text)

    def slot_action(self, int32_t id_slot, str action not None, bytes body=b"") -> dict:
        """Save a slot's cache below --slot-save-path, restore it ("save", "restore": {"filename"}), or "erase" it.

        Waits until the slot is idle, with the GIL released. Raises UnsupportedError without that flag,
        InvalidRequestError for a slot, a name or a file that cannot be used.
        """
        cdef string text = body
        cdef string answer
        cdef c_slot_action which
        cdef shared_ptr[c_engine] engine
        self.check()
        if action == "save":
            which = c_slot_action.save
        elif action == "restore":
            which = c_slot_action.restore
        elif action == "erase":
            which = c_slot_action.erase
        else:
            raise _errors.InvalidRequestError("Invalid action", param="action")
        engine = self.handle
        with nogil:
            answer = c_slot_action_json(deref(engine), id_slot, which, text)
        return _json.loads(answer)

    def shutdown(self, str message="the server is shutting down") -> None:
        """Refuse new requests and end every unfinished one with an error. Idempotent."""
        cdef string text = message.encode()
        self.check()
        deref(self.handle).shutdown(text)

    def close(self) -> None:
        """End the engine and free the model. Idempotent; streams stay readable."""
        cdef shared_ptr[c_engine] engine = self.handle
        self.handle.reset()
        if engine.get() == NULL:
            return
        if self.pid != _os.getpid():
            # The threads are in the parent: nothing here may join them.
            new shared_ptr[c_engine](engine)
        else:
            with nogil:
                deref(engine).close()
                engine.reset()

    def __dealloc__(self):
        if self.handle.get() != NULL:
            if self.pid != _os.getpid():
                # The threads are in the parent: nothing here may join them.
                new shared_ptr[c_engine](self.handle)
                return
            with nogil:
                deref(self.handle).close()
                self.handle.reset()
