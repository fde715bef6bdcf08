"""Every error pyllama raises of its own.

PyllamaError
├── InvalidRequestError (ValueError)      a value the caller gave; .param names the field
│   ├── ContextLengthError                .n_prompt_tokens, .n_ctx
│   └── MediaUrlError                     an image is given by a URL, which is not fetched here
├── NotFoundError (LookupError)
├── UnsupportedError                      known, but not served by this build or model
├── EngineUnavailableError                loading, or shutting down
│   └── EngineBusyError                   the queue is full; try again in .retry_after seconds
├── ClosedError (ValueError)              a handle was used after close()
├── ModelLoadError (OSError)              missing, truncated, or no GGUF
└── EngineError (RuntimeError)            anything else
    ├── StreamGapError                    bytes that a reader wanted are gone; .first_lost, .first_kept
    ├── ContextFullError                  a low-level decode found no room in the KV memory
    └── DecodeCancelledError              a low-level decode was stopped by Context.cancel()
"""

from __future__ import annotations

__all__ = [
    "ClosedError",
    "ContextFullError",
    "ContextLengthError",
    "DecodeCancelledError",
    "EngineBusyError",
    "EngineError",
    "EngineUnavailableError",
    "InvalidRequestError",
    "MediaUrlError",
    "ModelLoadError",
    "NotFoundError",
    "PyllamaError",
    "StreamGapError",
    "UnsupportedError",
]


class PyllamaError(Exception):
    """Base of every error that pyllama raises of its own."""


class InvalidRequestError(PyllamaError, ValueError):
    """A value given by the caller cannot be used.

    ``param`` is the name of the field at fault, or None when no single field is.
    """

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class ContextLengthError(InvalidRequestError):
    """The prompt does not fit into the context; both counts are in tokens."""

    def __init__(
        self, message: str, *, n_prompt_tokens: int = 0, n_ctx: int = 0, param: str | None = None
    ) -> None:
        super().__init__(message, param=param)
        self.n_prompt_tokens = n_prompt_tokens
        self.n_ctx = n_ctx


class MediaUrlError(InvalidRequestError):
    """An image is given by a URL. The server fetches it; in process, give a ``data:`` URI."""


class NotFoundError(PyllamaError, LookupError):
    """No such completion, stream, model or slot."""


class UnsupportedError(PyllamaError):
    """The feature is known, but this build or this model does not have it."""


class EngineUnavailableError(PyllamaError):
    """The engine is loading or shutting down."""


class EngineBusyError(EngineUnavailableError):
    """The request queue is full; try again later.

    ``retry_after`` is in how many seconds what waits now will have been served, as far as the engine can tell
    from what it served so far; None when it cannot.
    """

    def __init__(self, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ClosedError(PyllamaError, ValueError):
    """A handle was used after its close()."""


class ModelLoadError(PyllamaError, OSError):
    """The model file is missing, truncated, not a GGUF, or cannot be loaded here."""


class EngineError(PyllamaError, RuntimeError):
    """The engine failed; the message says how."""


class StreamGapError(EngineError):
    """A stream's oldest bytes were dropped before this reader had them.

    What is lost are the bytes from ``first_lost`` up to ``first_kept``, which is the oldest that is left.
    """

    def __init__(self, first_lost: int, first_kept: int) -> None:
        super().__init__(
            f"the reader was too slow: bytes {first_lost} to {first_kept} of the stream are gone"
        )
        self.first_lost = first_lost
        self.first_kept = first_kept


class ContextFullError(EngineError):
    """The KV memory has no room for the batch; nothing was changed."""


class DecodeCancelledError(EngineError):
    """``Context.cancel`` stopped a decode; the compute steps that were done stay in the KV memory."""
