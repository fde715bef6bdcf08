# LoRA adapters and control vectors: what is added to a model's weights and hidden states.


@cython.auto_pickle(False)
@cython.no_gc_clear
@cython.final
cdef class LoraAdapter:
    """A LoRA adapter read from the GGUF file ``path``, for Context.set_adapters.

    Keeps its model alive and open until close(); a context manager. Usable by any thread. Raises ModelLoadError when
    the file is missing, damaged, or made for another model.
    """

    cdef llama.llama_adapter_lora * _ptr
    cdef Model _model
    cdef long _pid
    cdef dict _dependents
    cdef readonly str path

    def __cinit__(self, Model model not None, object path not None):
        model._alive()
        self._pid = llama.process_id()
        self._dependents = {}
        self.path = _os.fsdecode(path)
        if model.vocab_only:
            raise _errors.InvalidRequestError(f"{model!r} was loaded with vocab_only=True: it has no weights to adapt")
        _check_file(self.path, b"GGUF", "a GGUF file")
        cdef string c_path = _os.fsencode(path)
        cdef llama.llama_model * weights = model._ptr
        cdef log_capture capture
        model._n_calls += 1
        _enter()
        try:
            with nogil:
                c_check_lora_file(weights, c_path)
                model._adapters_mutex.lock()
                try:
                    self._ptr = llama_adapter_lora_init(weights, c_path.c_str())
                finally:
                    model._adapters_mutex.unlock()
        finally:
            model._n_calls -= 1
            _leave()
        if self._ptr is NULL:
            raise _errors.ModelLoadError(
                f"cannot load the LoRA adapter {self.path!r}: {_reason(capture.text(), 'unknown reason')}"
            )
        self._model = model
        model._dependents[id(self)] = repr(self)

    def __dealloc__(self):
        self._free()

    cdef int _free(self) except -1:
        cdef llama.llama_adapter_lora * ptr = self._ptr
        self._ptr = NULL
        if ptr is not NULL and self._pid == llama.process_id():
            with nogil:
                self._model._adapters_mutex.lock()
                llama.llama_adapter_lora_free(ptr)
                self._model._adapters_mutex.unlock()
        if self._model is not None:
            self._model._dependents.pop(id(self), None)
        return 0

    def __enter__(self):
        self._alive()
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        if exc_type is None or not self._dependents:
            self.close()

    def __reduce_ex__(self, protocol):
        raise TypeError("a LoraAdapter cannot be pickled: load it by its path instead")

    def __repr__(self):
        return f"<pyllama.LoraAdapter {self.path!r}{' closed' if self._ptr is NULL else ''}>"

    cdef int _alive(self) except -1:
        if self._ptr is NULL:
            raise _errors.ClosedError(f"the LoRA adapter {self.path!r} is closed")
        return _check_process(self._pid, f"the LoRA adapter {self.path!r}")

    def close(self):
        """Free the adapter. Idempotent; raises InvalidRequestError while a context uses it."""
        if self._ptr is NULL:
            return
        self._alive()
        if self._dependents:
            users = ", ".join(self._dependents.values())
            raise _errors.InvalidRequestError(f"the LoRA adapter {self.path!r} is still used by {users}")
        self._free()

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._ptr is NULL

    @property
    def model(self) -> Model:
        """The model that the adapter was loaded for."""
        return self._model

    @property
    def meta(self) -> dict:
        """The GGUF metadata, scalars as text; arrays are left out."""
        self._alive()
        cdef int32_t i
        result = {}
        for i in range(llama.llama_adapter_meta_count(self._ptr)):
            key = _read_text(_adapter_meta_key, self._ptr, i)
            result[key] = _read_text(_adapter_meta_value, self._ptr, i)
        return result

    @property
    def invocation_tokens(self) -> object:
        """The tokens that switch an activated LoRA (aLoRA) on: an int32 array, empty for a plain LoRA."""
        self._alive()
        cdef uint64_t n = llama.llama_adapter_get_alora_n_invocation_tokens(self._ptr)
        return _token_array(llama.llama_adapter_get_alora_invocation_tokens(self._ptr), <Py_ssize_t> n)


cdef int _set_adapters(Context context, dict adapters) except -1:
    cdef vector[llama.llama_adapter_lora *] pointers
    cdef vector[float] scales
    cdef LoraAdapter adapter
    for each, scale in adapters.items():
        if not isinstance(each, LoraAdapter):
            raise TypeError(f"adapters must map LoraAdapter to a scale, not {type(each).__name__}")
        adapter = each
        adapter._alive()
        if adapter._model is not context._model:
            raise _errors.InvalidRequestError(
                f"{adapter!r} was loaded for {adapter._model!r}, and the context runs {context._model!r}",
                param="adapters",
            )
        pointers.push_back(adapter._ptr)
        scales.push_back(<float> _real(scale, "scale", -1e6, 1e6))
    llama_set_adapters_lora(context._ptr, pointers.data(), pointers.size(), scales.data())
    _release_adapters(context)
    context._adapters = {each: float(scale) for each, scale in adapters.items()}
    for each in context._adapters:
        (<LoraAdapter> each)._dependents[id(context)] = repr(context)
    return 0


cdef int _release_adapters(_ContextHandle context) except -1:
    for each in context._adapters:
        (<LoraAdapter> each)._dependents.pop(id(context), None)
    context._adapters = {}
    return 0


cdef int _set_control_vector(Context context, object data, object layers) except -1:
    cdef int32_t n_layer = llama.llama_model_n_layer(context._model._ptr)
    cdef int32_t n_embd = llama.llama_model_n_embd(context._model._ptr)
    if data is None:
        return _apply_control_vector(context, None)
    if n_layer < 2:
        raise _errors.UnsupportedError("a model of one layer has no layer to steer")
    numpy = _numpy()
    rows = numpy.array(data, dtype=numpy.float32, order="C")
    if rows.shape != (n_layer - 1, n_embd):
        raise _errors.InvalidRequestError(
            f"data must have the shape ({n_layer - 1}, {n_embd}) (n_layer - 1, n_embd), not {rows.shape}", param="data"
        )
    if not numpy.isfinite(rows).all():
        raise _errors.InvalidRequestError("data holds NaN or infinity", param="data")
    start, end = (1, n_layer - 1) if layers is None else layers
    first = _integer(start, "layers", 1, n_layer - 1)
    return _apply_control_vector(context, (rows, first, _integer(end, "layers", first, n_layer - 1)))


cdef int _apply_control_vector(Context context, tuple control_vector) except -1:
    """Set (rows, first layer, last layer), or None; llama.cpp reserves its buffers anew then."""
    cdef int32_t n_embd = llama.llama_model_n_embd(context._model._ptr)
    cdef Py_buffer buffer
    cdef int32_t first
    cdef int32_t last
    cdef int32_t code
    if control_vector is None:
        llama_set_adapter_cvec(context._ptr, NULL, 0, n_embd, -1, -1)
        context._control_vector = None
        return 0
    rows, first, last = control_vector
    PyObject_GetBuffer(rows, &buffer, PyBUF_C_CONTIGUOUS)
    try:
        with nogil:
            llama_synchronize(context._ptr)
            code = llama_set_adapter_cvec(
                context._ptr, <const float *> buffer.buf, buffer.len // sizeof(float), n_embd, first, last
            )
    finally:
        PyBuffer_Release(&buffer)
    if code != 0:
        raise _errors.EngineError("llama.cpp could not set the control vector")
    context._control_vector = control_vector
    return 0


cdef int32_t _adapter_meta_key(const void * handle, int32_t i, char * buf, size_t size) noexcept nogil:
    return llama.llama_adapter_meta_key_by_index(<const llama.llama_adapter_lora *> handle, i, buf, size)


cdef int32_t _adapter_meta_value(const void * handle, int32_t i, char * buf, size_t size) noexcept nogil:
    return llama.llama_adapter_meta_val_str_by_index(<const llama.llama_adapter_lora *> handle, i, buf, size)
