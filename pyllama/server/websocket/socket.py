"""The application's side of one WebSocket: text messages in, and turns at writing out.

Whoever has something to send waits for a turn, reads what it sends only then, and keeps the turn until the
client has taken it. So a slow client holds back its own readers and nothing else, and what waits for it waits
in the rings.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.types import Receive, Scope, Send

from pyllama.server.connections import FrameWriter, current_connection

__all__ = ["ClientSocket", "SocketClosedError"]


# Seconds for the close to go out, to a client that takes nothing.
_CLOSE_TIMEOUT = 2.0


class SocketClosedError(Exception):
    """The socket is closed; there is nobody to answer."""


class ClientSocket:
    """One accepted socket. Anybody may write in a turn; one coroutine receives."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, write_timeout: float) -> None:
        self._receive = receive
        self._send = send
        self._write_timeout = write_timeout
        self._frames = FrameWriter(scope.get("http_version", ""))
        self._turn = asyncio.Lock()  # first come, first served
        self._closed = False

    async def receive(self) -> bytes | None:
        """Return the next message as UTF-8, None at the end. A binary message counts as text."""
        message = await self._receive()
        if message["type"] != "websocket.receive":
            self._closed = True
            return None
        text = message.get("text")
        data: bytes = message["bytes"] if text is None else text.encode()
        return data

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, in which to write.

        Raises:
            SocketClosedError: The socket is closed.
        """
        async with self._turn:
            if self._closed:
                raise SocketClosedError
            yield

    async def write(self, frames: Sequence[bytes]) -> None:
        """Send text messages in this turn, and wait until the client keeps up.

        Raises:
            SocketClosedError: The socket is closed, or took nothing for the write timeout.
        """
        if self._frames.write(frames):
            if not self._frames.paused:
                return
            frames = ()
        try:
            async with asyncio.timeout(self._write_timeout) as deadline:
                for frame in frames:
                    await self._send({"type": "websocket.send", "text": frame.decode()})
                    deadline.reschedule(asyncio.get_running_loop().time() + self._write_timeout)
                await self._frames.drain()
        except TimeoutError:
            self._closed = True
            connection = current_connection.get()
            if connection is not None:
                connection.transport.abort()
            raise SocketClosedError from None

    async def send(self, *frames: bytes) -> None:
        """Send text messages in a turn of their own. Raises as write()."""
        async with self.turn():
            await self.write(frames)

    async def close(self, code: int, reason: str) -> None:
        """Close the socket; idempotent."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await self._send({"type": "websocket.close", "code": code, "reason": reason})
