"""A TCP proxy that cuts connections behind a given number of the server's bytes."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Self


class CuttingProxy:
    """``with CuttingProxy(port, limits) as proxy``: on a thread of its own, with its own event loop.

    ``limits(n)`` is what the n-th connection lets through of the server's bytes, None for all; they are
    counted from the last ``cut()``.
    """

    def __init__(self, port: int, limits: Callable[[int], int | None]) -> None:
        self.cut(limits)
        self._target = port
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def cut(self, limits: Callable[[int], int | None]) -> None:
        """Let new connections have other limits."""
        self.n_connections = 0
        self._limits = limits

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        connections: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._connect(reader, writer))
            connections.add(task)
            task.add_done_callback(connections.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port: int = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        limit = self._limits(self.n_connections)
        self.n_connections += 1
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        upwards = asyncio.ensure_future(self._pump(reader, to_server))
        try:
            with contextlib.suppress(ConnectionError):
                while data := await from_server.read(65536):
                    if limit is not None:
                        data, limit = data[:limit], limit - len(data)
                    writer.write(data)
                    await writer.drain()
                    if limit is not None and limit <= 0:
                        break
        finally:
            upwards.cancel()
            for end in (writer, to_server):
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
