"""A request's connection: who is at its other end, and ways around Hypercorn for what is written often.

The server's loop (``server_loop.py``) makes them. Their transports drop a client that takes nothing of its
answer, and write the chunks of a stream and the frames of a WebSocket with a fraction of the usual cost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextvars import ContextVar

from starlette.types import Scope

from pyllama.server.transport import CoalescingTransport

__all__ = ["ChunkWriter", "Connection", "FrameWriter", "connection_of", "current_connection"]


class Connection:
    """One connection of a client, as the loop knows it."""

    __slots__ = ("_on_gone", "gone", "transport", "writable")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self.transport = CoalescingTransport(transport, loop)
        # Set while the transport takes more: what it tells its protocol.
        self.writable = asyncio.Event()
        self.writable.set()
        self.gone = False
        self._on_gone: dict[Callable[[], None], None] = {}

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called, once, when the client closes its side or the connection is lost."""
        self._on_gone[callback] = None

    def forget(self, callback: Callable[[], None]) -> None:
        """Drop what on_gone() was given; idempotent."""
        self._on_gone.pop(callback, None)

    def note_gone(self) -> None:
        """Tell all that the client is gone; idempotent."""
        self.gone = True
        callbacks, self._on_gone = self._on_gone, {}
        for callback in callbacks:
            callback()


# Set before a connection's tasks are made, which inherit it.
current_connection: ContextVar[Connection | None] = ContextVar("current_connection", default=None)


def connection_of(scope: Scope) -> Connection | None:
    """Return a request's connection where it is this request's alone, which on HTTP/2 it is not."""
    return current_connection.get() if scope.get("http_version", "").startswith("1") else None


def _chunked(http_version: str) -> Connection | None:
    return current_connection.get() if http_version == "1.1" else None


class ChunkWriter:
    """Writes chunks of an HTTP/1.1 response to the transport of the current connection.

    Only between a response's head, without a content length, and its last chunk, which Hypercorn writes. That
    leaves Hypercorn's state as it is: its chunks carry no state either.
    """

    def __init__(self, http_version: str) -> None:
        connection = _chunked(http_version)
        self._transport = None if connection is None else connection.transport

    @property
    def ready(self) -> bool:
        """Whether the client keeps up, so that a chunk may be written."""
        return self._transport is not None and self._transport.idle

    def write(self, data: bytes) -> None:
        """Write ``data``, not empty, as one chunk, when ready."""
        assert self._transport is not None
        self._transport.write_now(b"%x\r\n%b\r\n" % (len(data), data))


class FrameWriter:
    """Writes text frames of a WebSocket to the transport of the current HTTP/1.1 connection.

    Only between the handshake and the close, and only for a socket without extensions. Each frame is whole,
    so those that Hypercorn writes (pongs, the close) fall between them.
    """

    def __init__(self, http_version: str) -> None:
        self._connection = _chunked(http_version)

    @property
    def paused(self) -> bool:
        """Whether the client has yet to take what was written."""
        return self._connection is not None and not self._connection.writable.is_set()

    def write(self, frames: Sequence[bytes]) -> bool:
        """Write messages, each as one frame; do nothing and return False where that cannot be done."""
        if self._connection is None or self._connection.transport.is_closing():
            return False
        parts: list[bytes] = []
        for frame in frames:
            parts += (_frame_head(len(frame)), frame)
        self._connection.transport.write_now(b"".join(parts))
        return True

    async def drain(self) -> None:
        """Wait while the client has more to take than the transport likes to hold, or until it is gone."""
        if self._connection is not None:
            await self._connection.writable.wait()


def _frame_head(size: int) -> bytes:
    """Return the head of a whole text frame from a server (RFC 6455, section 5.2)."""
    if size < 126:
        return bytes((0x81, size))
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")
