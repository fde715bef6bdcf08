"""A stream over server-sent events, without its connections: what to ask for, and what the answers mean.

The first request posts the chat; all others get what is missing, by the offset behind the last whole event.
The server's keep-alive comments are on the wire only: they do not count.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyllama.client.errors import RetryableError, StreamFailedError, StreamGoneError, error_for

__all__ = ["HttpRequest", "SseResumption"]

_END = b"\n\n"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What to send, in the words of httpx."""

    method: str
    path: str
    params: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    json: Any = None


class SseResumption:
    """Where one client is in one stream."""

    def __init__(self, request: Mapping[str, Any] | None, conversation_id: str, position: int = 0) -> None:
        self._request = request
        self._conversation_id = conversation_id
        self._begun = request is None  # whether the server is known to have the conversation
        self._asked = request is None  # whether it may have it
        self._posting = False
        self._partial = b""
        self._n_new = 0  # bytes since the last connection began
        self.position = position
        self.finished = False

    def next_request(self) -> HttpRequest:
        """Return what the next connection is to ask for."""
        self._partial = b""
        self._n_new = 0
        self._posting = not self._asked
        if self._posting:
            self._asked = True
            headers = {"x-conversation-id": self._conversation_id}
            body = {**(self._request or {}), "stream": True}
            return HttpRequest("POST", "/v1/chat/completions", headers=headers, json=body)
        params = {"conv_id": self._conversation_id, "from": str(self.position)}
        return HttpRequest("GET", "/v1/stream", params=params)

    def note_status(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """Take a response's status; of an error, with its body.

        Raises:
            ClientError: It is final.
            RetryableError: It is worth another connection.
        """
        if status == 200:
            self._begun = True
            return
        wait = headers.get("retry-after", "")
        exc = error_for(status, _error_of(body, status), float(wait) if wait.isdigit() else None)
        if self._posting:
            self._asked = False  # refused: there is nothing to come back to
        elif isinstance(exc, StreamGoneError) and not self._begun:
            # The post never arrived, or its connection was lost before the server had read it.
            self._asked = False
            raise RetryableError("the request has not arrived") from exc
        raise exc

    def feed(self, data: bytes) -> Iterator[Any]:
        """Take bytes of a body; yield the chunks that are whole. ``position`` is behind the one yielded last.

        Raises:
            StreamFailedError: The answer ended with an error.
            StreamGapError: The server dropped bytes before we had them.
        """
        *events, self._partial = (self._partial + data).split(_END)
        for event in events:
            if event.startswith(b":"):
                continue
            value = _data_of(event)
            if isinstance(value, dict) and "error" in value and "choices" not in value:
                raise _failure(value["error"])
            if value is None:
                # It does not count: whoever comes back with the position gets it again, and so knows the end.
                self.finished = True
                return
            self.position += len(event) + len(_END)
            self._n_new += len(event)
            yield value

    def note_end(self) -> None:
        """Take the regular end of a body.

        Raises:
            RetryableError: There is more to come.
            StreamFailedError: There is not, and the answer never came to its end.
        """
        if not self.finished:
            if self._partial or self._n_new or self._posting:
                raise RetryableError("the response ended before the answer")
            raise StreamFailedError({"message": "the stream ended without its last event"})


def _data_of(event: bytes) -> Any:
    """Return the JSON of an event, None for the last one."""
    data = b"\n".join(line[5:].removeprefix(b" ") for line in event.split(b"\n") if line.startswith(b"data:"))
    return None if data == b"[DONE]" else json.loads(data)


def _failure(error: Any) -> Exception:
    if isinstance(error, dict):
        exc = error_for(int(error.get("code", 500)), error)
        if error.get("type") == "stream_gap_error" or isinstance(exc, StreamGoneError):
            return exc
        return StreamFailedError(error)
    return StreamFailedError({"message": str(error)})


def _error_of(body: bytes, status: int) -> Mapping[str, Any]:
    try:
        error = json.loads(body)["error"]
    except (ValueError, LookupError, TypeError):
        error = None
    return error if isinstance(error, dict) else {"code": status, "message": f"status {status}"}
