# A model: weights and vocabulary, immutable after load. Any thread may read it. Contexts and sampler chains that
# point into it keep it alive, and close() refuses while one of them lives.

from cpython.ref cimport PyObject


cdef class _LoadProgress:
    """What the progress callback needs: the function, and the exception it raised."""

    cdef object function
    cdef object error

    def __cinit__(self, function):
        self.function = function


cdef cbool _on_load_progress(float progress, void * user_data) noexcept with gil:
    cdef _LoadProgress state = <_LoadProgress> <PyObject *> user_data
    try:
        return state.function(progress) is not False
    except BaseException as error:
        state.error = error
        return False


@cython.auto_pickle(False)
@cython.no_gc_clear
cdef class Model:
    """A GGUF model loaded into memory.

    ``path`` is a file, or the first file of a split model. ``n_gpu_layers`` counts the layers kept on GPUs, -1
    for all. ``use_mmap`` maps the file instead of reading it; ``use_mlock`` keeps it in RAM. ``vocab_only`` loads
    the vocabulary and the metadata without weights. ``progress`` is called with a value in [0, 1]; when it returns
    False or raises, the load stops.

    Usable by any thread; a context manager. Raises ModelLoadError when the file is missing, truncated or no GGUF.
    """

    cdef llama.llama_model * _ptr
    cdef long _pid
    cdef int _n_calls
    cdef dict _dependents
    cdef readonly str path
    cdef readonly bint vocab_only

    def __cinit__(self, object path not None, *, int64_t n_gpu_layers=-1, bint use_mmap=True,
                  bint use_mlock=False, bint vocab_only=False, object progress=None):
        self._pid = llama.process_id()
        self._dependents = {}
        self.path = _os.fsdecode(path)
        self.vocab_only = vocab_only
        _integer(n_gpu_layers, "n_gpu_layers", -1, 1 << 30)
        self._check_file()
        _ensure_llama()

        cdef llama.llama_model_params params = llama.llama_model_default_params()
        params.n_gpu_layers = <int32_t> n_gpu_layers
        params.vocab_only = vocab_only
        if use_mmap:
            params.load_mode = llama.LLAMA_LOAD_MODE_MMAP_MLOCK if use_mlock else llama.LLAMA_LOAD_MODE_MMAP
        else:
            params.load_mode = llama.LLAMA_LOAD_MODE_MLOCK if use_mlock else llama.LLAMA_LOAD_MODE_NONE
        cdef _LoadProgress state = _LoadProgress(progress)
        if progress is not None:
            if not callable(progress):
                raise TypeError(f"progress must be callable, not {type(progress).__name__}")
            params.progress_callback = <llama.llama_progress_callback> _on_load_progress
            params.progress_callback_user_data = <void *> <PyObject *> state
        cdef bytes encoded = _os.fsencode(path)
        cdef const char * c_path = encoded
        cdef log_capture capture
        with nogil:
            self._ptr = llama_model_load_from_file(c_path, params)
        if self._ptr is not NULL:
            return
        if state.error is not None:
            raise state.error
        reason = _reason(capture.text(), "the load was stopped by progress" if progress else "unknown reason")
        raise _errors.ModelLoadError(f"cannot load {self.path!r}: {reason}")

    cdef int _check_file(self) except -1:
        """Say plainly what is wrong with the file, where that can be seen without llama.cpp."""
        if "\0" in self.path:
            raise _errors.ModelLoadError(f"cannot load {self.path!r}: the path holds a NUL character")
        try:
            with open(self.path, "rb") as file:
                magic = file.read(4)
        except OSError as error:
            raise _errors.ModelLoadError(
                f"cannot load {self.path!r}: {error.strerror or error}"
            ) from None
        if magic != b"GGUF":
            raise _errors.ModelLoadError(f"cannot load {self.path!r}: not a GGUF file (it begins with {magic!r})")
        return 0

    def __dealloc__(self):
        cdef llama.llama_model * ptr = self._ptr
        self._ptr = NULL
        if ptr is not NULL and self._pid == llama.process_id():
            with nogil:
                llama.llama_model_free(ptr)
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
        cdef llama.llama_model * ptr = self._ptr
        self._ptr = NULL
        with nogil:
            llama.llama_model_free(ptr)

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
            result[self._meta_text(i, True)] = self._meta_text(i, False)
        return result

    cdef str _meta_text(self, int32_t i, bint key):
        cdef int32_t size = 256
        cdef int32_t length
        while True:
            buffer = bytearray(size)
            if key:
                length = llama.llama_model_meta_key_by_index(self._ptr, i, buffer, size)
            else:
                length = llama.llama_model_meta_val_str_by_index(self._ptr, i, buffer, size)
            if length < size:
                return bytes(buffer[: max(length, 0)]).decode("utf-8", "replace")
            size = length + 1

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
    def n_layer(self) -> int:
        """The number of layers."""
        self._alive()
        return llama.llama_model_n_layer(self._ptr)

    @property
    def n_head(self) -> int:
        """The number of attention heads of the first layer."""
        self._alive()
        return llama.llama_model_n_head(self._ptr)

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
    def desc(self) -> str:
        """A short description: architecture, size and quantisation."""
        self._alive()
        cdef char buffer[256]
        cdef int32_t length = llama.llama_model_desc(self._ptr, buffer, sizeof(buffer))
        return buffer[: min(max(length, 0), <int32_t> sizeof(buffer) - 1)].decode("utf-8", "replace")

    def chat_template(self, str name=None):
        """Return the Jinja text of the default chat template, or of the one called ``name``; None when absent."""
        self._alive()
        cdef bytes encoded = b"" if name is None else _utf8(name, "name")
        cdef const char * c_name = NULL
        if name is not None:
            c_name = encoded
        cdef const char * text = llama.llama_model_chat_template(self._ptr, c_name)
        return None if text is NULL else text.decode("utf-8", "replace")
