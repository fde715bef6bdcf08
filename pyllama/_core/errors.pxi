# C++ errors become Python classes here, and only here. Declare a function of csrc/ as
# `except +raise_captured` and its exceptions arrive as pyllama.errors.

from pyllama import errors as _errors

from core cimport captured_error, capture_error, error_kind


cdef str _text(const string & value):
    return value.decode("utf-8", "replace")


cdef int raise_captured() except -1:
    cdef captured_error captured = capture_error()
    cdef str message = _text(captured.message)
    if captured.out_of_memory:
        raise MemoryError(message)
    if captured.kind == error_kind.context_exceeded:
        raise _errors.ContextLengthError(
            message, n_prompt_tokens=captured.n_prompt_tokens, n_ctx=captured.n_ctx
        )
    if captured.kind == error_kind.invalid_request:
        raise _errors.InvalidRequestError(message, param=_text(captured.param) or None)
    if captured.kind == error_kind.media_url:
        raise _errors.MediaUrlError(message, param=_text(captured.param) or None)
    if captured.kind == error_kind.not_found:
        raise _errors.NotFoundError(message)
    if captured.kind == error_kind.unsupported:
        raise _errors.UnsupportedError(message)
    if captured.kind == error_kind.busy:
        raise _errors.EngineBusyError(message, retry_after=captured.retry_after or None)
    if captured.kind == error_kind.unavailable:
        raise _errors.EngineUnavailableError(message)
    if captured.kind == error_kind.closed:
        raise _errors.ClosedError(message)
    if captured.kind == error_kind.model_load:
        raise _errors.ModelLoadError(message)
    raise _errors.EngineError(message)
