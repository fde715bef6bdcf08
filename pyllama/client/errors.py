"""What ends a resuming stream before its answer ends.

ClientError
├── AuthenticationError     401 or 403: the key is not the server's
├── RequestRefusedError     the server refused the request; .status, .error
├── StreamGoneError         the conversation was deleted, replaced, or has expired
├── StreamGapError          the server no longer has what comes next
├── StreamFailedError       the answer ended with an error; .error
└── RetriesExhaustedError   the connection failed too often without progress; its cause is the last failure
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "AuthenticationError",
    "ClientError",
    "RequestRefusedError",
    "RetriesExhaustedError",
    "RetryableError",
    "StreamFailedError",
    "StreamGapError",
    "StreamGoneError",
    "error_for",
]


class ClientError(Exception):
    """The base of all of them."""


class AuthenticationError(ClientError):
    """The key is missing or wrong."""


class RequestRefusedError(ClientError):
    """The server refused the request."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        super().__init__(f"{status}: {error.get('message', 'no reason was given')}")
        self.status = status
        self.error = error


class StreamGoneError(ClientError):
    """The conversation was deleted, replaced by a newer one, or has expired."""


class StreamGapError(ClientError):
    """The server has dropped bytes that this client has not seen: it was away for too long."""


class StreamFailedError(ClientError):
    """The answer ended with an error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(str(error.get("message", "no reason was given")))
        self.error = error


class RetriesExhaustedError(ClientError):
    """The connection failed too often in a row."""


class RetryableError(Exception):
    """The server asks to come back later. Ends up as the cause of a RetriesExhaustedError at most."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


# A busy server, one that loads or ends, and what proxies say of a server they cannot reach.
_RETRYABLE = frozenset({408, 425, 429, 502, 503, 504})


def error_for(status: int, error: Mapping[str, Any], retry_after: float | None = None) -> Exception:
    """Return the exception for an error of the server's."""
    message = str(error.get("message", f"status {status}"))
    if status in (401, 403):
        return AuthenticationError(message)
    if error.get("type") == "stream_gap_error" or message.startswith("Stream offset lost"):
        return StreamGapError(message)
    if status in _RETRYABLE:
        return RetryableError(message, retry_after)
    if status == 404:
        return StreamGoneError(message)
    return RequestRefusedError(status, error)
