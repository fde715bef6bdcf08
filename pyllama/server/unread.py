"""Answers that come before the request's body was read: 401, 404, 413, 503 and the like.

Hypercorn queues what the client sends until the application takes it, and a full queue blocks the end of the
response; and a socket that is closed with bytes unread is reset, so that the client may never see the answer.
So the rest of the body is read and dropped between the answer's last byte and its end, for a short time.
"""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pyllama.server.connections import current_connection

__all__ = ["UnreadBody"]

# Seconds; a client that goes on sending after that is cut off.
LINGER = 5.0


class UnreadBody:
    """The outermost layer. Requests without a body pass untouched."""

    def __init__(self, app: ASGIApp, linger: float = LINGER) -> None:
        self._app = app
        self._linger = linger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _has_body(scope):
            request = _Request(scope, receive, send, self._linger)
            await self._app(scope, request.receive, request.send)
        else:
            await self._app(scope, receive, send)


def _has_body(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if (name == b"content-length" and value != b"0") or name == b"transfer-encoding":
            return True
    return bool(scope.get("http_version", "1.1") >= "2" and scope["method"] not in ("GET", "HEAD", "OPTIONS"))


class _Request:
    def __init__(self, scope: Scope, receive: Receive, send: Send, linger: float) -> None:
        self._receive = receive
        self._send = send
        self._linger = linger
        self._complete = False
        self._says_close = scope.get("http_version", "1.1") < "2"

    async def receive(self) -> Message:
        message = await self._receive()
        if not message.get("more_body", False):
            self._complete = True
        return message

    async def send(self, message: Message) -> None:
        if self._complete:
            await self._send(message)
        elif message["type"] == "http.response.start":
            if self._says_close:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await self._send(message)
        elif message.get("more_body", False):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            await self._drop_rest()
            await self._send({"type": "http.response.body", "body": b""})

    async def _drop_rest(self) -> None:
        try:
            async with asyncio.timeout(self._linger):
                while not self._complete:
                    await self.receive()
        except TimeoutError:
            connection = current_connection.get()
            if connection is not None:
                connection.transport.abort()
                while not self._complete:  # ends with the disconnect
                    await self.receive()
