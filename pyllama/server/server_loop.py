"""An event loop that knows its server's connections.

Hypercorn keeps its transports to itself. We need them to end a shutdown that a peer would otherwise hold open
(on Python 3.12.1 and later ``Server.wait_closed`` waits for every connection), to hear that a peer has gone,
to end connections that it has closed, and to refuse more of them than there are descriptors for.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

from pyllama.server.connections import Connection, current_connection
from pyllama.server.logs import complain

__all__ = ["ServerLoop"]

# Seconds that a connection lives on after its peer has closed it. Hypercorn has told the application of the
# disconnect by then, but would itself keep the socket open until its keep-alive timer runs out.
PEER_CLOSED_GRACE = 0.5
# Seconds between two lines that say that connections are refused.
COMPLAINT_INTERVAL = 60.0


def _listen(
    protocol: asyncio.Protocol,
    connection: Connection,
    end_soon: Callable[[], None],
    on_lost: Callable[[], None],
) -> None:
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
        on_lost()
        end_soon()
        connection.note_gone()
        connection_lost(exc)

    protocol.connection_lost = note_lost  # type: ignore[method-assign]
    protocol.eof_received = note_eof  # type: ignore[method-assign]
    protocol.pause_writing = note_pause  # type: ignore[method-assign]
    protocol.resume_writing = note_resume  # type: ignore[method-assign]


async def _handle(coro: Coroutine[Any, Any, Any]) -> None:
    # A handler that ends as cancelled is an error to asyncio's streams, which log it (before Python 3.12).
    # What else comes out of it is of Hypercorn's protocol, which a client has led to its limits; what the
    # application raised has been logged by then.
    try:
        await coro
    except asyncio.CancelledError:
        pass
    except Exception as exc:
        while isinstance(exc, ExceptionGroup):
            exc = exc.exceptions[0]
        complain(f"a connection was dropped: {type(exc).__name__}: {exc}", logging.WARNING)


def _refuse(protocol: asyncio.Protocol, transport: asyncio.Transport) -> None:
    protocol.connection_lost = lambda exc: None  # type: ignore[method-assign]
    transport.abort()


class ServerLoop(asyncio.SelectorEventLoop):
    """A selector loop that remembers its servers and the transports of their connections.

    ``max_connections``: more are closed at once. A process without a free descriptor can do nothing else, and
    asyncio then logs a traceback for each of the thousands of accepts that it tries.
    """

    # What it is anyway, as a call into C: it is asked several times in each turn.
    time = staticmethod(time.monotonic)

    def __init__(self, max_connections: int = sys.maxsize) -> None:
        super().__init__()
        self.max_connections = max_connections
        self.n_connections = 0
        self.__complained_at = -math.inf
        # Mangled names: the base class has attributes like these.
        self.__servers: weakref.WeakSet[asyncio.Server] = weakref.WeakSet()
        self.__transports: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()
        self.__handlers: list[asyncio.Task[Any]] | None = None

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """As the base class; the task that handles a new connection is remembered."""
        if self.__handlers is None:
            return super().create_task(coro, **options)
        task = super().create_task(_handle(coro), **options)
        self.__handlers.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """As the base class; that there is no descriptor for a new connection is told in a line."""
        if "out of system resource" in str(context.get("message")):
            self.__complain(f"a new connection was not accepted: {context.get('exception')}")
        else:
            super().call_exception_handler(context)

    def __complain(self, message: str) -> None:
        now = self.time()
        if now - self.__complained_at >= COMPLAINT_INTERVAL:
            self.__complained_at = now
            complain(message, logging.WARNING)

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], *args: Any, **kwargs: Any
    ) -> asyncio.Server:
        """As the base class; connections are remembered."""

        def make_protocol() -> asyncio.Protocol:
            protocol = protocol_factory()
            connection_made = protocol.connection_made
            handlers: list[asyncio.Task[Any]] = []

            def end() -> None:
                self.n_connections -= 1

            def end_soon() -> None:
                for handler in handlers:
                    self.call_later(PEER_CLOSED_GRACE, handler.cancel)
                handlers.clear()

            def remember(transport: asyncio.BaseTransport) -> None:
                assert isinstance(transport, asyncio.Transport)
                if self.n_connections >= self.max_connections:
                    self.__complain(f"there are {self.n_connections} connections: new ones are refused")
                    _refuse(protocol, transport)
                    return
                self.n_connections += 1
                self.__transports.add(transport)
                connection = Connection(self, transport)
                _listen(protocol, connection, end_soon, end)
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
