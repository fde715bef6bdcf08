"""A stream over a WebSocket, without its connections: how each begins, and what the answers mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pyllama.client.errors import (
    RequestRefusedError,
    RetryableError,
    StreamFailedError,
    StreamGoneError,
    error_for,
)

__all__ = ["SOCKET_PATH", "SocketResumption", "socket_url"]

SOCKET_PATH = "/v1/chat/completions/socket"


def socket_url(base_url: str) -> str:
    """Return the socket's address below a server's: ``https`` becomes ``wss``."""
    return "ws" + base_url.removeprefix("http").rstrip("/") + SOCKET_PATH


class SocketResumption:
    """Where one client is in one stream."""

    def __init__(
        self, request: Mapping[str, Any] | None, conversation_id: str, position: int | None = None
    ) -> None:
        self._request = request
        self._conversation_id = conversation_id
        self._asked = request is None
        self._begun = request is None
        self.position = position
        self.finished = False

    def first_message(self) -> str:
        """Return what the next connection is to say first."""
        message: dict[str, Any] = {"conversation_id": self._conversation_id, "request_id": "stream"}
        if self._asked:
            return json.dumps({"type": "resume", "after": self.position, **message})
        self._asked = True
        return json.dumps({"type": "chat.completion.create", "body": dict(self._request or {}), **message})

    def feed(self, text: str | bytes) -> list[Any]:
        """Take a message; return its chunk, if it has one.

        Raises:
            ClientError: The stream ends here.
            RetryableError: It is worth another connection.
        """
        message = json.loads(text)
        kind = message.get("type")
        if kind == "chat.completion.chunk":
            self._begun = True
            self.position = message["event_id"]
            return [message["data"]]
        if kind == "done":
            self.finished = True
        elif kind == "error":
            self._fail(message["error"])
        return []

    def note_close(self) -> None:
        """Take the regular end of a connection. Raises RetryableError when there is more to come."""
        if not self.finished:
            raise RetryableError("the socket closed before the answer ended")

    def _fail(self, error: Mapping[str, Any]) -> None:
        exc = error_for(int(error.get("code", 500)), error)
        if isinstance(exc, StreamGoneError) and not self._begun:
            # The request never arrived.
            self._asked = False
            raise RetryableError("the request has not arrived") from exc
        if isinstance(exc, RetryableError) and not self._begun:
            self._asked = False
        elif isinstance(exc, (RequestRefusedError, RetryableError)) and self._begun:
            raise StreamFailedError(error)
        raise exc
