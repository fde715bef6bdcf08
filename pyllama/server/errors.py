"""From exceptions to OpenAI's error envelope: the one table of the HTTP layer.

{"error": {"code": 400, "message": "...", "type": "invalid_request_error", "param": "..."}}

Anthropic's clients get the same with its own mark, ``"type": "error"``, and error events with a name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import Scope, Send

from pyllama import errors

__all__ = ["ErrorAnswer", "answer_for", "describe_exception", "dialect_of", "json_bytes", "send_json"]

# The first class that matches decides.
_TABLE: tuple[tuple[type[BaseException], int, str], ...] = (
    (errors.ContextLengthError, 400, "exceed_context_size_error"),
    (errors.StreamGapError, 400, "stream_gap_error"),
    (errors.InvalidRequestError, 400, "invalid_request_error"),
    (errors.NotFoundError, 404, "not_found_error"),
    (errors.UnsupportedError, 501, "not_supported_error"),
    (errors.EngineBusyError, 429, "unavailable_error"),
    (errors.EngineUnavailableError, 503, "unavailable_error"),
    (errors.ClosedError, 503, "unavailable_error"),
)

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "unavailable_error",
    501: "not_supported_error",
    503: "unavailable_error",
}

# Seconds, where the engine does not know better.
_RETRY_AFTER = 1


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """A whole error response: status, the object below "error", and headers besides the usual ones."""

    status: int
    error: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, dialect: str = "") -> bytes:
        """The envelope as JSON."""
        mark = {"type": "error"} if dialect == "anthropic" else {}
        return json_bytes({**mark, "error": self.error})

    def event(self, dialect: str = "") -> bytes:
        """The envelope as a server-sent event, for a stream whose headers are out."""
        name = b"event: error\n" if dialect == "anthropic" else b""
        return name + b"data: " + self.body(dialect) + b"\n\n"

    async def send(self, scope: Scope, send: Send) -> None:
        """Answer a request with this error."""
        body = self.body(dialect_of(scope["path"]))
        await send_json(send, self.status, body, self.headers, head=scope.get("method") == "HEAD")


def dialect_of(path: str) -> str:
    """Return whose clients ask for a path, as far as errors differ."""
    return "anthropic" if path.endswith(("/v1/messages", "/v1/messages/count_tokens")) else ""


def answer_for(status: int, message: str, *, headers: dict[str, str] | None = None) -> ErrorAnswer:
    """Return an answer with the error type that belongs to the status."""
    kind = _TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")
    return ErrorAnswer(status, {"code": status, "message": message, "type": kind}, headers or {})


def describe_exception(exc: BaseException, dialect: str = "") -> ErrorAnswer:
    """Return the answer for an exception. What is no error of ours becomes a 500 that says its class only."""
    if isinstance(exc, HTTPException):
        return _describe_http(exc)
    status, kind = next(
        ((row[1], row[2]) for row in _TABLE if isinstance(exc, row[0])), (500, "server_error")
    )
    if dialect == "anthropic" and status == 501:
        status, kind = 500, "server_error"  # as llama-server: Anthropic's API has no 501
    message = str(exc) if isinstance(exc, errors.PyllamaError) else f"internal error ({type(exc).__name__})"
    error: dict[str, Any] = {"code": status, "message": message, "type": kind}
    if isinstance(exc, errors.ContextLengthError):
        error["n_prompt_tokens"] = exc.n_prompt_tokens
        error["n_ctx"] = exc.n_ctx
    if isinstance(exc, errors.StreamGapError):
        error["first_lost"] = exc.first_lost
        error["first_kept"] = exc.first_kept
    if isinstance(exc, errors.InvalidRequestError) and exc.param is not None:
        error["param"] = exc.param
    headers = {}
    if status == 429:
        headers["retry-after"] = str(getattr(exc, "retry_after", None) or _RETRY_AFTER)
    return ErrorAnswer(status, error, headers)


def _describe_http(exc: HTTPException) -> ErrorAnswer:
    # A path that takes other methods only is not found either, as in llama-server.
    status = 404 if exc.status_code == 405 else exc.status_code
    message = exc.detail
    if status == 404 and message == HTTPStatus(exc.status_code).phrase:
        message = "File Not Found"
    return answer_for(status, message, headers=dict(exc.headers or {}))


def json_bytes(value: object) -> bytes:
    """Encode a value as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


async def send_json(
    send: Send, status: int, body: bytes, headers: dict[str, str] | None = None, *, head: bool = False
) -> None:
    """Send a JSON body as a complete response."""
    raw = [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    raw += [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()
    ]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": b"" if head else body})
