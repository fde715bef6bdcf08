"""An event loop that knows its server connections.

Hypercorn keeps its transports to itself. We need them to drop a client that takes nothing of its answer, to
end a shutdown that a peer would otherwise hold open (on Python 3.12.1 and later ``Server.wait_closed`` waits
for every connection), to end connections that the peer has closed, and to write the chunks of a stream and
the frames of a WebSocket with a fraction of the usual cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from typing import Any

__all__ = ["ChunkWriter", "FrameWriter", "ServerLoop", "current_transport"]

# Seconds that a connection lives on after its peer has closed it. Hypercorn has told the application of the
# disconnect by then, but would itself keep the socket open until its keep-alive timer runs out.
PEER_CLOSED_GRACE = 0.5

# Set before a connection's tasks are made, which inherit it.
current_transport: ContextVar[asyncio.Transport | None] = ContextVar("current_transport", default=None)
# Set while the transport takes more: what it tells its protocol.
_current_writable: ContextVar[asyncio.Event | None] = ContextVar("current_writable", default=None)


class ChunkWriter:
    """Writes chunks of an HTTP/1.1 response to the transport of the current connection.

    Only between a response's head, without a content length, and its last chunk, which Hypercorn writes. That
    leaves Hypercorn's state as it is: its chunks carry no state either.
    """

    def __init__(self, http_version: str) -> None:
        self._transport = current_transport.get() if http_version == "1.1" else None

    def write(self, data: bytes) -> bool:
        """Write ``data``, not empty, as one chunk if the client keeps up; else do nothing, return False."""
        transport = self._transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size() > 0:
            return False
        transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True


class FrameWriter:
    """Writes text frames of a WebSocket to the transport of the current HTTP/1.1 connection.

    Only between the handshake and the close, and only for a socket without extensions. Each frame is whole,
    so those that Hypercorn writes (pongs, the close) fall between them.
    """

    def __init__(self, http_version: str) -> None:
        self._transport = current_transport.get() if http_version == "1.1" else None
        self._writable = _current_writable.get()

    @property
    def paused(self) -> bool:
        """Whether the client has yet to take what was written."""
        return self._writable is not None and not self._writable.is_set()

    def write(self, frames: Sequence[bytes]) -> bool:
        """Write messages, each as one frame; do nothing and return False where that cannot be done."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        parts: list[bytes] = []
        for frame in frames:
            parts += (_frame_head(len(frame)), frame)
        transport.write(b"".join(parts))
        return True

    async def drain(self) -> None:
        """Wait while the client has more to take than the transport likes to hold, or until it is gone."""
        if self._writable is not None:
            await self._writable.wait()


def _frame_head(size: int) -> bytes:
    """Return the head of a whole text frame from a server (RFC 6455, section 5.2)."""
    if size < 126:
        return bytes((0x81, size))
    if size < 1 << 16:
        return b"\x81\x7e" + size.to_bytes(2, "big")
    return b"\x81\x7f" + size.to_bytes(8, "big")


async def _until_cancelled(coro: Coroutine[Any, Any, Any]) -> None:
    # A handler that ends as cancelled is an error to asyncio's streams, which log it (before Python 3.12).
    with contextlib.suppress(asyncio.CancelledError):
        await coro


class ServerLoop(asyncio.SelectorEventLoop):
    """A selector loop that remembers its servers and the transports of their connections."""

    def __init__(self) -> None:
        super().__init__()
        # Mangled names: the base class has attributes like these.
        self.__servers: weakref.WeakSet[asyncio.Server] = weakref.WeakSet()
        self.__transports: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self.__handlers: list[asyncio.Task[Any]] | None = None

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """As the base class; the task that handles a new connection is remembered."""
        if self.__handlers is None:
            return super().create_task(coro, **options)
        task = super().create_task(_until_cancelled(coro), **options)
        self.__handlers.append(task)
        return task

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], *args: Any, **kwargs: Any
    ) -> asyncio.Server:
        """As the base class; connections are remembered."""

        def make_protocol() -> asyncio.Protocol:
            protocol = protocol_factory()
            connection_made = protocol.connection_made
            connection_lost = protocol.connection_lost
            eof_received = protocol.eof_received
            pause_writing = protocol.pause_writing
            resume_writing = protocol.resume_writing
            handlers: list[asyncio.Task[Any]] = []
            writable = asyncio.Event()
            writable.set()

            def end_soon() -> None:
                for handler in handlers:
                    self.call_later(PEER_CLOSED_GRACE, handler.cancel)
                handlers.clear()

            def note_eof() -> bool | None:
                end_soon()
                return eof_received()

            def note_pause() -> None:
                writable.clear()
                pause_writing()

            def note_resume() -> None:
                writable.set()
                resume_writing()

            def note_lost(exc: Exception | None) -> None:
                writable.set()
                end_soon()
                connection_lost(exc)

            def remember(transport: asyncio.BaseTransport) -> None:
                assert isinstance(transport, asyncio.Transport)
                self.__transports.add(transport)
                current_transport.set(transport)
                _current_writable.set(writable)
                self.__handlers = handlers
                try:
                    connection_made(transport)
                finally:
                    self.__handlers = None

            protocol.connection_made = remember  # type: ignore[method-assign]
            protocol.connection_lost = note_lost  # type: ignore[method-assign]
            protocol.eof_received = note_eof  # type: ignore[method-assign]
            protocol.pause_writing = note_pause  # type: ignore[method-assign]
            protocol.resume_writing = note_resume  # type: ignore[method-assign]
            return protocol

        server = await super().create_server(make_protocol, *args, **kwargs)
        self.__servers.add(server)
        return server

    def stop_accepting(self) -> None:
        """Close the listening sockets; connections go on."""
        for server in list(self.__servers):
            server.close()

    def abort_connections(self) -> int:
        """Drop every open connection at once, unsent bytes with it; return how many there were."""
        open_ones = [transport for transport in self.__transports if not transport.is_closing()]
        # A closing transport that still waits for its peer to read is aborted too.
        for transport in list(self.__transports):
            transport.abort()
        return len(open_ones)
