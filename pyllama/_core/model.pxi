# A model: weights and vocabulary, immutable after load. Any thread may read it. Contexts and sampler chains that
# point into it keep it alive, and close() refuses while one of them lives.

from libcpp.shared_mutex cimport shared_mutex


@cython.auto_pickle(False)
@cython.no_gc_clear
cdef class Model:
    """A GGUF model loaded into memory.

    ``path`` is a file, the first file of a split model, or a sequence of all its files in their order.
    ``n_gpu_layers`` counts the layers kept on GPUs, -1 for all. ``split_mode`` spreads them over several GPUs: "none"
    (``main_gpu`` alone), "layer", "row" or "tensor", in the proportions ``tensor_split``; ``devices`` names the GPUs to
    use, as in build_info()["devices"]. ``use_mmap`` maps the file instead of reading it, ``use_direct_io`` reads it
    past the system's cache; ``use_mlock`` keeps it in RAM. ``lazy`` reads rows of very large tables when they are used:
    "on", "off", or "auto" from 4 GiB on. ``vocab_only`` loads the vocabulary and the metadata without weights.
    ``check_tensors`` looks for numbers that are none. ``use_extra_bufts`` lets weights be repacked for this CPU;
    ``no_host`` keeps weights out of the GPU's host memory. ``tensor_overrides`` maps regular expressions of tensor
    names to the memory they go to, "CPU" or a GPU's name; the first that is found in a name counts. ``kv_overrides``
    replaces metadata by key.
    ``progress`` is called with a value in [0, 1]; when it returns False or raises, the load stops, and what it raised
    comes out of here. So does KeyboardInterrupt.

    Usable by any thread; a context manager. Raises ModelLoadError when the file is missing, truncated or no GGUF,
    InvalidRequestError for values out of range.
    """

    cdef llama.llama_model * _ptr
    cdef long _pid
    cdef int _n_calls
    cdef dict _dependents
    # Contexts walk the model's list of LoRA adapters when they build a graph; loading and freeing one changes it.
    cdef shared_mutex _adapters_mutex
    cdef object _fingerprint
    cdef readonly str path
    cdef readonly bint vocab_only

    def __cinit__(self, object path not None, *, object n_gpu_layers=-1, object split_mode="layer",
                  object main_gpu=0, object tensor_split=None, object devices=None, bint use_mmap=True,
                  bint use_mlock=False, bint use_direct_io=False, object lazy="auto", bint vocab_only=False,
                  bint check_tensors=False, bint use_extra_bufts=True, bint no_host=False,
                  object tensor_overrides=None, object kv_overrides=None, object progress=None):
        self._pid = llama.process_id()
        self._dependents = {}
        cdef list files = [path] if isinstance(path, (str, bytes, _os.PathLike)) else list(path)
        if not files:
            raise _errors.InvalidRequestError("path names no file", param="path")
        self.path = _os.fsdecode(files[0])
        self.vocab_only = vocab_only
        for file in files:
            _check_file(_os.fsdecode(file), b"GGUF", "a GGUF file")
        _ensure_llama()

        cdef _LoadOptions options = _LoadOptions()
        cdef _LoadProgress state = _LoadProgress(progress)
        options.set_load_mode(use_mmap, use_mlock, use_direct_io, lazy)
        options.set_placement(n_gpu_layers, split_mode, main_gpu, tensor_split, devices)
        if tensor_overrides is not None:
            options.set_tensor_overrides(tensor_overrides)
        if kv_overrides is not None:
            options.set_overrides(kv_overrides, files[0])
        options.params.vocab_only = vocab_only
        options.params.check_tensors = check_tensors
        options.params.use_extra_bufts = use_extra_bufts
        options.params.no_host = no_host
        options.params.progress_callback = <llama.llama_progress_callback> _on_load_progress
        options.params.progress_callback_user_data = <void *> <PyObject *> state
        self._load(files, options, state)

    cdef int _load(self, list files, _LoadOptions options, _LoadProgress state) except -1:
        cdef list encoded = [_os.fsencode(file) for file in files]
        cdef vector[const char *] paths
        cdef log_capture capture
        for each in encoded:
            paths.push_back(<const char *> <bytes> each)
        _enter()
        try:
            with nogil:
                if paths.size() == 1:
                    self._ptr = llama_model_load_from_file(paths[0], options.params)
                else:
                    self._ptr = llama_model_load_from_splits(paths.data(), paths.size(), options.params)
        finally:
            _leave()
        if state.error is not None:
            self._free()
            raise state.error
        if self._ptr is NULL:
            otherwise = "unknown reason" if state.function is None else "the load was stopped by progress"
            raise _errors.ModelLoadError(f"cannot load {self.path!r}: {_reason(capture.text(), otherwise)}")
        n_files = int(self.meta.get("split.count", 1))
        if paths.size() > 1 and n_files != <int64_t> paths.size():
            self._free()
            raise _errors.ModelLoadError(
                f"cannot load {self.path!r}: it is split into {n_files} files, not {len(files)}"
            )
        return 0

    cdef int _free(self) except -1:
        cdef llama.llama_model * ptr = self._ptr
        self._ptr = NULL
        if ptr is not NULL and self._pid == llama.process_id():
            with nogil:
                llama.llama_model_free(ptr)
        return 0

    def __dealloc__(self):
        cdef bint unclosed = self._ptr is not NULL and self._pid == llama.process_id()
        self._free()
        if unclosed:
            _warn_unclosed(f"unclosed <pyllama.Model {self.path!r}>")

    def __enter__(self):
        self._alive()
        return self

    def __exit__(self, exc_type, exc_value, traceback):
        # While an exception passes, a forgotten context must not hide it; it frees the model when it goes.
        if exc_type is None or not self._dependents:
            self.close()

    def __reduce_ex__(self, protocol):
        raise TypeError("a Model cannot be pickled: load it by its path instead")

    def __repr__(self):
        if self._ptr is NULL:
            return f"<pyllama.Model {self.path!r} closed>"
        return f"<pyllama.Model {self.path!r}>"

    cdef int _alive(self) except -1:
        if self._ptr is NULL:
            raise _errors.ClosedError(f"the model {self.path!r} is closed")
        return _check_process(self._pid, f"the model {self.path!r}")

    def close(self):
        """Free the weights. Idempotent; raises InvalidRequestError while a context or sampler chain uses them."""
        if self._ptr is NULL:
            return
        _check_process(self._pid, f"the model {self.path!r}")
        if self._dependents:
            users = ", ".join(self._dependents.values())
            raise _errors.InvalidRequestError(f"the model {self.path!r} is still used by {users}: close that first")
        if self._n_calls:
            raise _errors.InvalidRequestError(f"the model {self.path!r} is in use by another thread")
        self._free()

    @property
    def closed(self) -> bool:
        """Whether close() was called."""
        return self._ptr is NULL

    @property
    def vocab(self) -> Vocab:
        """The vocabulary; it keeps the model alive."""
        self._alive()
        return Vocab.__new__(Vocab, self)

    @property
    def meta(self) -> dict:
        """The GGUF metadata, scalars as text; arrays are left out."""
        self._alive()
        cdef int32_t i
        result = {}
        for i in range(llama.llama_model_meta_count(self._ptr)):
            key = _read_text(_model_meta_key, self._ptr, i)
            result[key] = _read_text(_model_meta_value, self._ptr, i)
        return result

    @property
    def n_ctx_train(self) -> int:
        """The context size in tokens that the model was trained for."""
        self._alive()
        return llama.llama_model_n_ctx_train(self._ptr)

    @property
    def n_embd(self) -> int:
        """The width of a hidden state."""
        self._alive()
        return llama.llama_model_n_embd(self._ptr)

    @property
    def n_embd_inp(self) -> int:
        """The width of an input embedding; more than n_embd where an image feeds several layers."""
        self._alive()
        return llama.llama_model_n_embd_inp(self._ptr)

    @property
    def n_embd_out(self) -> int:
        """The width of an output embedding."""
        self._alive()
        return llama.llama_model_n_embd_out(self._ptr)

    @property
    def n_layer(self) -> int:
        """The number of layers."""
        self._alive()
        return llama.llama_model_n_layer(self._ptr)

    @property
    def n_layer_nextn(self) -> int:
        """The number of layers that predict further tokens."""
        self._alive()
        return llama.llama_model_n_layer_nextn(self._ptr)

    @property
    def n_head(self) -> int:
        """The number of attention heads of the first layer."""
        self._alive()
        return llama.llama_model_n_head(self._ptr)

    @property
    def n_head_kv(self) -> int:
        """The number of key and value heads of the first layer."""
        self._alive()
        return llama.llama_model_n_head_kv(self._ptr)

    @property
    def n_swa(self) -> int:
        """The sliding window of the layers that have one, in tokens; 0 when none has."""
        self._alive()
        return llama.llama_model_n_swa(self._ptr)

    @property
    def rope_type(self) -> str | None:
        """How positions rotate: "norm", "neox", "mrope", "imrope", "vision"; None when they do not."""
        self._alive()
        return _ROPE_TYPES.get(<int> llama.llama_model_rope_type(self._ptr))

    @property
    def rope_freq_scale_train(self) -> float:
        """The scaling factor of the rotation frequencies."""
        self._alive()
        return llama.llama_model_rope_freq_scale_train(self._ptr)

    @property
    def n_params(self) -> int:
        """The number of parameters."""
        self._alive()
        return llama.llama_model_n_params(self._ptr)

    @property
    def size(self) -> int:
        """The size of all tensors in bytes."""
        self._alive()
        return llama.llama_model_size(self._ptr)

    @property
    def ftype(self) -> str:
        """The number format of most weights, "Q8_0" for example."""
        self._alive()
        return llama.llama_ftype_name(llama.llama_model_ftype(self._ptr)).decode("utf-8", "replace")

    @property
    def desc(self) -> str:
        """A short description: architecture, size and quantisation."""
        self._alive()
        cdef char buffer[256]
        cdef int32_t length = llama.llama_model_desc(self._ptr, buffer, sizeof(buffer))
        return buffer[: min(max(length, 0), <int32_t> sizeof(buffer) - 1)].decode("utf-8", "replace")

    @property
    def has_encoder(self) -> bool:
        """Whether a prompt goes through Context.encode()."""
        self._alive()
        return bool(llama.llama_model_has_encoder(self._ptr))

    @property
    def has_decoder(self) -> bool:
        """Whether Context.decode() generates."""
        self._alive()
        return bool(llama.llama_model_has_decoder(self._ptr))

    @property
    def is_recurrent(self) -> bool:
        """Whether each sequence has one state instead of a KV cache (Mamba, RWKV)."""
        self._alive()
        return bool(llama.llama_model_is_recurrent(self._ptr))

    @property
    def is_hybrid(self) -> bool:
        """Whether layers with a state and layers with a KV cache alternate (Jamba, Granite)."""
        self._alive()
        return bool(llama.llama_model_is_hybrid(self._ptr))

    @property
    def is_diffusion(self) -> bool:
        """Whether the model denoises a whole text (LLaDA, Dream)."""
        self._alive()
        return bool(llama.llama_model_is_diffusion(self._ptr))

    @property
    def decoder_start_token(self) -> int | None:
        """The token that a decoder after an encoder starts with; None for other models."""
        self._alive()
        return _known(llama.llama_model_decoder_start_token(self._ptr))

    @property
    def cls_labels(self) -> list[str | None]:
        """The labels of a classifier's outputs, None where one has no label; empty for other models."""
        self._alive()
        cdef uint32_t n = llama.llama_model_n_cls_out(self._ptr)
        cdef uint32_t i
        cdef const char * label
        labels = []
        for i in range(n):
            label = llama.llama_model_cls_label(self._ptr, i)
            labels.append(None if label is NULL else label.decode("utf-8", "replace"))
        return labels if any(label is not None for label in labels) else []

    def chat_template(self, str name=None):
        """Return the Jinja text of the default chat template, or of the one called ``name``; None when absent."""
        self._alive()
        cdef bytes encoded = b"" if name is None else _utf8(name, "name")
        cdef const char * c_name = NULL
        if name is not None:
            c_name = encoded
        cdef const char * text = llama.llama_model_chat_template(self._ptr, c_name)
        return None if text is NULL else text.decode("utf-8", "replace")

    cdef object _identity(self):
        """Return a number that tells this model's saved states from those of others: its metadata's checksum."""
        if self._fingerprint is None:
            items = sorted(self.meta.items())
            self._fingerprint = _zlib.crc32(repr(items).encode("utf-8", "replace"))
        return self._fingerprint


cdef dict _ROPE_TYPES = {
    <int> llama.LLAMA_ROPE_TYPE_NORM: "norm",
    <int> llama.LLAMA_ROPE_TYPE_NEOX: "neox",
    <int> llama.LLAMA_ROPE_TYPE_MROPE: "mrope",
    <int> llama.LLAMA_ROPE_TYPE_IMROPE: "imrope",
    <int> llama.LLAMA_ROPE_TYPE_VISION: "vision",
}


cdef int _check_file(str path, bytes magic, str kind) except -1:
    """Say plainly what is wrong with a file, where that can be seen without llama.cpp."""
    if "\0" in path:
        raise _errors.ModelLoadError(f"cannot load {path!r}: the path holds a NUL character")
    try:
        with open(path, "rb") as file:
            found = file.read(len(magic))
    except OSError as error:
        raise _errors.ModelLoadError(f"cannot load {path!r}: {error.strerror or error}") from None
    if found != magic:
        raise _errors.ModelLoadError(f"cannot load {path!r}: not {kind} (it begins with {found!r})")
    return 0


cdef int32_t _model_meta_key(const void * handle, int32_t i, char * buf, size_t size) noexcept nogil:
    return llama.llama_model_meta_key_by_index(<const llama.llama_model *> handle, i, buf, size)


cdef int32_t _model_meta_value(const void * handle, int32_t i, char * buf, size_t size) noexcept nogil:
    return llama.llama_model_meta_val_str_by_index(<const llama.llama_model *> handle, i, buf, size)
