"""One HTTP request's incoming side: its body, then its disconnect.

A client that goes away is noticed at every stage, streaming or not. Where the connection is this exchange's
alone, its transport tells; on HTTP/2 a task of our own waits on ``receive()``, once ``read_body()`` is done.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from pyllama.server.connections import Connection, connection_of

__all__ = ["ClientGoneError", "Exchange"]

# Seconds a client may send nothing while we wait for its body.
BODY_STALL = 30.0


class ClientGoneError(Exception):
    """The client closed the connection; there is nobody to answer."""


class Exchange:
    """Reads a request and then watches its connection. ``async with`` ends the watching."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.send = send
        self.gone: bool = False
        self._receive = receive
        self._on_gone: Callable[[], None] | None = None
        self._connection: Connection | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def read_body(self, limit: int, stall: float = BODY_STALL) -> bytes:
        """Return the whole body.

        Raises:
            HTTPException: 413, announced or found to be longer than ``limit`` bytes; 408, no byte came for
                ``stall`` seconds.
            ClientGoneError: The connection closed before the end.
        """
        announced = Headers(scope=self.scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > limit:
            raise _too_large(limit)
        chunks: list[bytes] = []
        size = 0
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(stall) as deadline:
                while True:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size > limit:
                        raise _too_large(limit)
                    chunks.append(chunk)
                    if not message.get("more_body", False):
                        return b"".join(chunks)
                    deadline.reschedule(loop.time() + stall)
        except TimeoutError:
            raise HTTPException(
                408, f"the request body did not arrive: nothing for {stall:g} seconds"
            ) from None

    def watch(self, on_gone: Callable[[], None]) -> None:
        """Call ``on_gone`` once when the client goes away. A later call replaces the earlier callback."""
        self._on_gone = on_gone
        if self._connection is None and self._watcher is None:
            self._connection = connection_of(self.scope)
            if self._connection is None:
                self._watcher = asyncio.create_task(self._wait_for_disconnect())
            else:
                self._connection.on_gone(self._note_gone)
                self.gone = self._connection.gone
        if self.gone:
            on_gone()

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._note_gone()

    def _note_gone(self) -> None:
        self.gone = True
        if self._on_gone is not None:
            self._on_gone()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._on_gone = None  # it leads to the stream that was sent, and the stream's bytes
        if self._connection is not None:
            self._connection.forget(self._note_gone)
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher


def _too_large(limit: int) -> HTTPException:
    return HTTPException(413, f"the request body exceeds the limit of {limit} bytes (--max-body-bytes)")
