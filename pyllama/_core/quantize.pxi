# Quantisation: the native half of pyllama.quantize, which owns the files. Any thread, several at once.

from cpython.exc cimport PyErr_CheckSignals

cdef extern from "llama.h" nogil:
    enum llama_ftype:
        LLAMA_FTYPE_ALL_F32
        LLAMA_FTYPE_MOSTLY_F16
        LLAMA_FTYPE_MOSTLY_BF16
        LLAMA_FTYPE_MOSTLY_Q4_0
        LLAMA_FTYPE_MOSTLY_Q4_1
        LLAMA_FTYPE_MOSTLY_Q5_0
        LLAMA_FTYPE_MOSTLY_Q5_1
        LLAMA_FTYPE_MOSTLY_Q8_0
        LLAMA_FTYPE_MOSTLY_Q2_K
        LLAMA_FTYPE_MOSTLY_Q2_K_S
        LLAMA_FTYPE_MOSTLY_Q3_K_S
        LLAMA_FTYPE_MOSTLY_Q3_K_M
        LLAMA_FTYPE_MOSTLY_Q3_K_L
        LLAMA_FTYPE_MOSTLY_Q4_K_S
        LLAMA_FTYPE_MOSTLY_Q4_K_M
        LLAMA_FTYPE_MOSTLY_Q5_K_S
        LLAMA_FTYPE_MOSTLY_Q5_K_M
        LLAMA_FTYPE_MOSTLY_Q6_K
        LLAMA_FTYPE_MOSTLY_IQ1_S
        LLAMA_FTYPE_MOSTLY_IQ1_M
        LLAMA_FTYPE_MOSTLY_IQ2_XXS
        LLAMA_FTYPE_MOSTLY_IQ2_XS
        LLAMA_FTYPE_MOSTLY_IQ2_S
        LLAMA_FTYPE_MOSTLY_IQ2_M
        LLAMA_FTYPE_MOSTLY_IQ3_XXS
        LLAMA_FTYPE_MOSTLY_IQ3_XS
        LLAMA_FTYPE_MOSTLY_IQ3_S
        LLAMA_FTYPE_MOSTLY_IQ3_M
        LLAMA_FTYPE_MOSTLY_IQ4_NL
        LLAMA_FTYPE_MOSTLY_IQ4_XS
        LLAMA_FTYPE_MOSTLY_TQ1_0
        LLAMA_FTYPE_MOSTLY_TQ2_0
        LLAMA_FTYPE_MOSTLY_MXFP4_MOE
        LLAMA_FTYPE_MOSTLY_Q1_0
        LLAMA_FTYPE_MOSTLY_Q2_0

cdef extern from "ggml.h" nogil:
    enum quant_type "ggml_type":
        QT_F32 "GGML_TYPE_F32"
        QT_F16 "GGML_TYPE_F16"
        QT_BF16 "GGML_TYPE_BF16"
        QT_Q4_0 "GGML_TYPE_Q4_0"
        QT_Q4_1 "GGML_TYPE_Q4_1"
        QT_Q5_0 "GGML_TYPE_Q5_0"
        QT_Q5_1 "GGML_TYPE_Q5_1"
        QT_Q8_0 "GGML_TYPE_Q8_0"
        QT_Q2_K "GGML_TYPE_Q2_K"
        QT_Q3_K "GGML_TYPE_Q3_K"
        QT_Q4_K "GGML_TYPE_Q4_K"
        QT_Q5_K "GGML_TYPE_Q5_K"
        QT_Q6_K "GGML_TYPE_Q6_K"
        QT_IQ4_NL "GGML_TYPE_IQ4_NL"
        QT_IQ4_XS "GGML_TYPE_IQ4_XS"
        QT_COUNT "GGML_TYPE_COUNT"

cdef dict _FTYPES = {
    "F32": <int> LLAMA_FTYPE_ALL_F32,
    "F16": <int> LLAMA_FTYPE_MOSTLY_F16,
    "BF16": <int> LLAMA_FTYPE_MOSTLY_BF16,
    "Q4_0": <int> LLAMA_FTYPE_MOSTLY_Q4_0,
    "Q4_1": <int> LLAMA_FTYPE_MOSTLY_Q4_1,
    "Q5_0": <int> LLAMA_FTYPE_MOSTLY_Q5_0,
    "Q5_1": <int> LLAMA_FTYPE_MOSTLY_Q5_1,
    "Q8_0": <int> LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q2_K": <int> LLAMA_FTYPE_MOSTLY_Q2_K,
    "Q2_K_S": <int> LLAMA_FTYPE_MOSTLY_Q2_K_S,
    "Q3_K_S": <int> LLAMA_FTYPE_MOSTLY_Q3_K_S,
    "Q3_K_M": <int> LLAMA_FTYPE_MOSTLY_Q3_K_M,
    "Q3_K_L": <int> LLAMA_FTYPE_MOSTLY_Q3_K_L,
    "Q4_K_S": <int> LLAMA_FTYPE_MOSTLY_Q4_K_S,
    "Q4_K_M": <int> LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "Q5_K_S": <int> LLAMA_FTYPE_MOSTLY_Q5_K_S,
    "Q5_K_M": <int> LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "Q6_K": <int> LLAMA_FTYPE_MOSTLY_Q6_K,
    "IQ1_S": <int> LLAMA_FTYPE_MOSTLY_IQ1_S,
    "IQ1_M": <int> LLAMA_FTYPE_MOSTLY_IQ1_M,
    "IQ2_XXS": <int> LLAMA_FTYPE_MOSTLY_IQ2_XXS,
    "IQ2_XS": <int> LLAMA_FTYPE_MOSTLY_IQ2_XS,
    "IQ2_S": <int> LLAMA_FTYPE_MOSTLY_IQ2_S,
    "IQ2_M": <int> LLAMA_FTYPE_MOSTLY_IQ2_M,
    "IQ3_XXS": <int> LLAMA_FTYPE_MOSTLY_IQ3_XXS,
    "IQ3_XS": <int> LLAMA_FTYPE_MOSTLY_IQ3_XS,
    "IQ3_S": <int> LLAMA_FTYPE_MOSTLY_IQ3_S,
    "IQ3_M": <int> LLAMA_FTYPE_MOSTLY_IQ3_M,
    "IQ4_NL": <int> LLAMA_FTYPE_MOSTLY_IQ4_NL,
    "IQ4_XS": <int> LLAMA_FTYPE_MOSTLY_IQ4_XS,
    "TQ1_0": <int> LLAMA_FTYPE_MOSTLY_TQ1_0,
    "TQ2_0": <int> LLAMA_FTYPE_MOSTLY_TQ2_0,
    "MXFP4_MOE": <int> LLAMA_FTYPE_MOSTLY_MXFP4_MOE,
    "Q1_0": <int> LLAMA_FTYPE_MOSTLY_Q1_0,
    "Q2_0": <int> LLAMA_FTYPE_MOSTLY_Q2_0,
}
# Formats that need no importance matrix: for these two tensors llama.cpp would abort for want of one.
cdef dict _TENSOR_TYPES = {
    None: <int> QT_COUNT,
    "F32": <int> QT_F32,
    "F16": <int> QT_F16,
    "BF16": <int> QT_BF16,
    "Q4_0": <int> QT_Q4_0,
    "Q4_1": <int> QT_Q4_1,
    "Q5_0": <int> QT_Q5_0,
    "Q5_1": <int> QT_Q5_1,
    "Q8_0": <int> QT_Q8_0,
    "Q2_K": <int> QT_Q2_K,
    "Q3_K": <int> QT_Q3_K,
    "Q4_K": <int> QT_Q4_K,
    "Q5_K": <int> QT_Q5_K,
    "Q6_K": <int> QT_Q6_K,
    "IQ4_NL": <int> QT_IQ4_NL,
    "IQ4_XS": <int> QT_IQ4_XS,
}
# llama.cpp looks for the matrix of every tensor but those two, and aborts if it makes them of such a format, too.
cdef frozenset _IMPURE = frozenset(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS"))


cdef object _importance_matrix(object imatrix):
    """Return an importance matrix as a dict of encoded names and lists of floats."""
    cdef bytes path
    if imatrix is None:
        return {}
    if isinstance(imatrix, (str, bytes, _os.PathLike)):
        path = _os.fsencode(imatrix)
        with open(path, "rb"):
            pass  # says plainly why a file cannot be read
        return load_importance_matrix(path)
    numpy = _numpy()
    entries = {}
    for name, values in imatrix.items():
        entries[_c_text(name, "imatrix")] = numpy.asarray(values, dtype=numpy.float32).ravel()
    return entries


def quantize_file(object source not None, object destination not None, str ftype not None, *, object n_threads=None,
                  object imatrix=None, bint allow_requantize=False, bint quantize_output=True, object output_type=None,
                  object embedding_type=None, bint pure=False, object progress=None):
    """Write a model file anew; ``destination`` holds rubbish after an exception. See pyllama.quantize."""
    _ensure_llama()
    cdef quantize_options options
    options.ftype = _choice(_FTYPES, ftype.upper(), "ftype")
    options.output_type = _choice(_TENSOR_TYPES, output_type and output_type.upper(), "output_type")
    options.embedding_type = _choice(_TENSOR_TYPES, embedding_type and embedding_type.upper(), "embedding_type")
    options.allow_requantize = allow_requantize
    options.quantize_output = quantize_output
    options.pure = pure
    if pure and ftype.upper() in _IMPURE:
        raise _errors.InvalidRequestError(f"pure=True cannot be combined with ftype={ftype!r}", param="pure")
    options.n_threads = <int32_t> _integer(_default_threads() if n_threads is None else n_threads, "n_threads", 1, 512)
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be callable, not {type(progress).__name__}")
    options.imatrix = _importance_matrix(imatrix)
    cdef quantization * running = new quantization(_os.fsencode(source), _os.fsencode(destination), options)
    cdef cbool ended = False
    cdef string failure
    _enter()
    try:
        while not ended:
            with nogil:
                ended = running.wait(100)
            PyErr_CheckSignals()
            if _exiting.load():
                running.cancel()
            if progress is not None:
                progress(1.0 if ended else running.progress())
        failure = running.failure()
    finally:
        with nogil:
            del running
        _leave()
    if failure.empty():
        return
    message = f"cannot quantize {_os.fsdecode(source)!r} to {ftype}: {_text(failure)}"
    if "iostream" in message:
        raise _errors.EngineError(f"{message} (writing failed: is the disk full?)")
    raise _errors.InvalidRequestError(message)
