# The options of a model: names, checks, and what the load calls back.

from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport PyObject

cimport ggml

cdef dict _SPLIT_MODES = {
    "none": llama.LLAMA_SPLIT_MODE_NONE,
    "layer": llama.LLAMA_SPLIT_MODE_LAYER,
    "row": llama.LLAMA_SPLIT_MODE_ROW,
    "tensor": llama.LLAMA_SPLIT_MODE_TENSOR,
}
cdef dict _LAZY_MODES = {
    "off": llama.LLAMA_LAZY_MODE_OFF,
    "auto": llama.LLAMA_LAZY_MODE_AUTO,
    "on": llama.LLAMA_LAZY_MODE_ON,
}
# Compiling a regular expression takes stack for each of its levels.
cdef int _PATTERN_LIMIT = 256
# Metadata that llama.cpp ends the process for when it does not fit the rest of the file.
cdef frozenset _FIXED = frozenset(("general.architecture", "general.alignment", "tokenizer.ggml.model"))
# The hyperparameters that can be overridden: those whose values no tensor's shape depends on. llama.cpp asserts on
# the others.
cdef dict _OVERRIDES = {
    "context_length": (int, 1, 1 << 30),
    "expert_used_count": (int, 1, 1024),
    "pooling_type": (int, 0, 4),
    "rope.scaling.original_context_length": (int, 1, 1 << 30),
    "rope.freq_base": (float, 1e-6, 1e12),
    "rope.scaling.factor": (float, 1e-6, 1e6),
    "attention.layer_norm_epsilon": (float, 0, 1),
    "attention.layer_norm_rms_epsilon": (float, 0, 1),
    "attention.causal": (bool, 0, 1),
}


@cython.internal
@cython.final
@cython.auto_pickle(False)
cdef class _LoadProgress:
    """What the progress callback needs: the caller's function or None, and the exception to raise."""

    cdef object function
    cdef object error

    def __cinit__(self, function):
        if function is not None and not callable(function):
            raise TypeError(f"progress must be callable, not {type(function).__name__}")
        self.function = function


cdef cbool _on_load_progress(float progress, void * user_data) noexcept with gil:
    cdef _LoadProgress state = <_LoadProgress> <PyObject *> user_data
    try:
        PyErr_CheckSignals()
        if _exiting.load():
            return False
        return state.function is None or state.function(progress) is not False
    except BaseException as error:
        state.error = error
        return False


@cython.internal
@cython.final
@cython.auto_pickle(False)
cdef class _LoadOptions:
    """llama.cpp's parameters of a load, with the memory that they point to."""

    cdef llama.llama_model_params params
    cdef vector[llama.llama_model_kv_override] overrides
    cdef vector[float] tensor_split
    cdef vector[llama.ggml_backend_dev_t] devices
    cdef list patterns
    cdef vector[llama.llama_model_tensor_buft_override] tensor_overrides

    def __cinit__(self):
        self.params = llama.llama_model_default_params()

    cdef int set_load_mode(self, bint use_mmap, bint use_mlock, bint use_direct_io, object lazy) except -1:
        cdef int lazy_mode = _choice(_LAZY_MODES, lazy, "lazy")
        self.params.lazy_mode = <llama.llama_lazy_mode> lazy_mode
        if use_direct_io and (use_mmap or use_mlock):
            raise _errors.InvalidRequestError(
                "use_direct_io=True needs use_mmap=False and use_mlock=False", param="use_direct_io"
            )
        if use_direct_io:
            self.params.load_mode = llama.LLAMA_LOAD_MODE_DIRECT_IO
        elif use_mmap:
            self.params.load_mode = llama.LLAMA_LOAD_MODE_MMAP_MLOCK if use_mlock else llama.LLAMA_LOAD_MODE_MMAP
        else:
            self.params.load_mode = llama.LLAMA_LOAD_MODE_MLOCK if use_mlock else llama.LLAMA_LOAD_MODE_NONE
        return 0

    cdef int set_placement(self, object n_gpu_layers, object split_mode, object main_gpu, object tensor_split,
                           object devices) except -1:
        self.params.n_gpu_layers = <int32_t> _integer(n_gpu_layers, "n_gpu_layers", -1, 1 << 30)
        cdef int mode = _choice(_SPLIT_MODES, split_mode, "split_mode")
        self.params.split_mode = <llama.llama_split_mode> mode
        self.params.main_gpu = <int32_t> _integer(main_gpu, "main_gpu", -1, 1 << 20)
        if tensor_split is not None:
            self.set_tensor_split(list(tensor_split))
        if devices is not None:
            self.set_devices(devices)
        return 0

    cdef int set_tensor_split(self, list parts) except -1:
        cdef size_t n = llama.llama_max_devices()
        if len(parts) > <Py_ssize_t> n:
            raise _errors.InvalidRequestError(
                f"tensor_split has {len(parts)} parts for at most {n} devices", param="tensor_split"
            )
        self.tensor_split.resize(n, 0)
        for i, part in enumerate(parts):
            self.tensor_split[i] = <float> _real(part, "tensor_split", 0, 1e9)
        self.params.tensor_split = self.tensor_split.data()
        return 0

    cdef int set_devices(self, object names) except -1:
        cdef llama.ggml_backend_dev_t device
        if isinstance(names, (str, bytes)):
            raise TypeError("devices must be a sequence of names")
        for name in names:
            device = llama.ggml_backend_dev_by_name(_utf8(name, "devices"))
            if device is NULL:
                raise _errors.InvalidRequestError(f"no device {name!r}: see build_info()['devices']", param="devices")
            self.devices.push_back(device)
        self.devices.push_back(NULL)
        self.params.devices = self.devices.data()
        return 0

    cdef int set_tensor_overrides(self, object overrides) except -1:
        """A tensor in the memory of a device that the model does not run on would end the process."""
        cdef llama.llama_model_tensor_buft_override item
        cdef dict kinds = {}
        for i in range(<Py_ssize_t> ggml.ggml_backend_dev_count()):
            self.add_buffer_type(kinds, ggml.ggml_backend_dev_get(i))
        self.patterns = []
        for pattern, kind in dict(overrides).items():
            name = f"tensor_overrides[{pattern!r}]"
            encoded = _utf8(pattern, name)
            if not encoded or len(encoded) > _PATTERN_LIMIT or b"\0" in encoded:
                raise _errors.InvalidRequestError(
                    f"{name}: a pattern has 1 to {_PATTERN_LIMIT} bytes", param="tensor_overrides"
                )
            self.patterns.append(encoded)
            item.pattern = <const char *> <bytes> self.patterns[-1]
            item.buft = <llama.ggml_backend_buffer_type_t> <size_t> _choice(kinds, kind, name)
            self.tensor_overrides.push_back(item)
        if self.tensor_overrides.size() > llama.llama_max_tensor_buft_overrides():
            raise _errors.InvalidRequestError(
                f"tensor_overrides has {len(overrides)} patterns, and {llama.llama_max_tensor_buft_overrides()} are "
                "allowed",
                param="tensor_overrides",
            )
        memset(&item, 0, sizeof(item))
        self.tensor_overrides.push_back(item)
        self.params.tensor_buft_overrides = self.tensor_overrides.data()
        return 0

    cdef int add_buffer_type(self, dict kinds, llama.ggml_backend_dev_t device) except -1:
        cdef ggml.ggml_backend_buffer_type_t kind = ggml.ggml_backend_dev_buffer_type(device)
        cdef bint runs = ggml.ggml_backend_dev_type_of(device) == ggml.GGML_BACKEND_DEVICE_TYPE_CPU
        cdef size_t i
        for i in range(self.devices.size()):
            runs = runs or self.devices[i] == device
        if self.devices.empty() and self.params.split_mode != llama.LLAMA_SPLIT_MODE_NONE:
            runs = runs or ggml.ggml_backend_dev_type_of(device) == ggml.GGML_BACKEND_DEVICE_TYPE_GPU
        if kind is not NULL and runs:
            kinds[ggml.ggml_backend_buft_name(kind).decode()] = <size_t> kind
        return 0

    cdef int set_overrides(self, object overrides, object first_file) except -1:
        for key, value in dict(overrides).items():
            self.add_override(key, value, first_file)
        cdef llama.llama_model_kv_override end
        memset(&end, 0, sizeof(end))
        self.overrides.push_back(end)
        self.params.kv_overrides = self.overrides.data()
        return 0

    cdef int add_override(self, str key, object value, object first_file) except -1:
        cdef llama.llama_model_kv_override item
        memset(&item, 0, sizeof(item))
        name = f"kv_overrides[{key!r}]"
        _copy_short(item.key, sizeof(item.key), key, name)
        prefix, _, rest = key.partition(".")
        kind, low, high = type(value), -(1 << 63), (1 << 63) - 1
        if key in _FIXED or (prefix not in ("general", "tokenizer") and rest not in _OVERRIDES):
            raise _errors.InvalidRequestError(
                f"{name} cannot be overridden: only keys of 'general.' and 'tokenizer.' but {sorted(_FIXED)}, and "
                f"{list(_OVERRIDES)} of the architecture can",
                param="kv_overrides",
            )
        if prefix not in ("general", "tokenizer"):
            kind, low, high = _OVERRIDES[rest]
        if rest == "expert_used_count":
            high = _expert_count(first_file, prefix)
        if kind is bool:
            item.tag = llama.LLAMA_KV_OVERRIDE_TYPE_BOOL
            item.val_bool = bool(_integer(value, name, 0, 1))
        elif kind is int:
            item.tag = llama.LLAMA_KV_OVERRIDE_TYPE_INT
            item.val_i64 = _integer(value, name, low, high)
        elif kind is float:
            item.tag = llama.LLAMA_KV_OVERRIDE_TYPE_FLOAT
            item.val_f64 = _real(value, name, low, high)
        elif kind is str:
            item.tag = llama.LLAMA_KV_OVERRIDE_TYPE_STR
            _copy_short(item.val_str, sizeof(item.val_str), value, name)
        else:
            raise TypeError(f"{name} must be a bool, int, float or str, not {kind.__name__}")
        self.overrides.push_back(item)
        return 0


cdef int _copy_short(char * out, size_t size, str text, str name) except -1:
    cdef bytes encoded = _utf8(text, name)
    if not encoded or len(encoded) >= <Py_ssize_t> size or b"\0" in encoded:
        raise _errors.InvalidRequestError(f"{name}: {text!r} must have 1 to {size - 1} bytes", param="kv_overrides")
    memcpy(out, <const char *> encoded, len(encoded))
    return 0


cdef int64_t _expert_count(object path, str architecture) except -1:
    """Return how many experts a model has; llama.cpp asserts on more of them being used."""
    with Model(path, vocab_only=True) as model:
        return int(model.meta.get(f"{architecture}.expert_count", 0))
