"""An event loop that knows its server connections.

Hypercorn keeps its transports to itself. We need them to drop a client that takes nothing of its answer, to
end a shutdown that a peer would otherwise hold open (on Python 3.12.1 and later ``Server.wait_closed`` waits
for every connection), to hear that a peer has gone, to end connections that it has closed, and to write the
chunks of a stream and the frames of a WebSocket with a fraction of the usual cost.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from typing import Any

from starlette.types import Scope

from pyllama.server.transport import CoalescingTransport

__all__ = ["ChunkWriter", "Connection", "FrameWriter", "ServerLoop", "connection_of", "current_connection"]

# Seconds that a connection lives on after its peer has closed it. Hypercorn has told the application of the
# disconnect by then, but would itself keep the socket open until its keep-alive timer runs out.
PEER_CLOSED_GRACE = 0.5


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


def _listen(protocol: asyncio.Protocol, connection: Connection, end_soon: Callable[[], None]) -> None:
    """Have a protocol tell us what its transport tells it. ``end_soon``: called when the client is gone."""
    connection_lost = protocol.connection_lost
    eof_received = protocol.eof_received
    pause_writing = protocol.pause_writing
    resume_writing = protocol.resume_writing

    def note_eof() -> bool | None:
        end_soon()
        connection.note_gone()
        return eof_received()

    def note_pause() -> None:
        connection.writable.clear()
        pause_writing()

    def note_resume() -> None:
        connection.writable.set()
        resume_writing()

    def note_lost(exc: Exception | None) -> None:
        connection.writable.set()
        end_soon()
        connection.note_gone()
        connection_lost(exc)

    protocol.connection_lost = note_lost  # type: ignore[method-assign]
    protocol.eof_received = note_eof  # type: ignore[method-assign]
    protocol.pause_writing = note_pause  # type: ignore[method-assign]
    protocol.resume_writing = note_resume  # type: ignore[method-assign]


async def _until_cancelled(coro: Coroutine[Any, Any, Any]) -> None:
    # A handler that ends as cancelled is an error to asyncio's streams, which log it (before Python 3.12).
    with contextlib.suppress(asyncio.CancelledError):
        await coro


class ServerLoop(asyncio.SelectorEventLoop):
    """A selector loop that remembers its servers and the transports of their connections."""

    # What it is anyway, as a call into C: it is asked several times in each turn.
    time = staticmethod(time.monotonic)

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
            handlers: list[asyncio.Task[Any]] = []

            def end_soon() -> None:
                for handler in handlers:
                    self.call_later(PEER_CLOSED_GRACE, handler.cancel)
                handlers.clear()

            def remember(transport: asyncio.BaseTransport) -> None:
                assert isinstance(transport, asyncio.Transport)
                self.__transports.add(transport)
                connection = Connection(self, transport)
                _listen(protocol, connection, end_soon)
                current_connection.set(connection)
                self.__handlers = handlers
                try:
                    connection_made(connection.transport)
                finally:
                    self.__handlers = None

            protocol.connection_made = remember  # type: ignore[method-assign]
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
