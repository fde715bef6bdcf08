r"""The server process: bind, load, serve, and end in order.

    bound --load begins--> loading (503) --ready--> serving --signal--> draining --> ended, exit 0
                              \--load fails--> one line, exit 1

Draining: no new connections, 503 for new requests, running ones may finish within ``--shutdown-timeout``;
then the engine ends them with an error event, and what is still open is dropped. Hypercorn's own shutdown
comes last, when nothing is left that it could wait for. A second signal ends the process at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, cast

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config, Sockets
from hypercorn.typing import Framework

from pyllama.server.app import create_app
from pyllama.server.logs import complain
from pyllama.server.server_loop import ServerLoop
from pyllama.server.settings import Settings
from pyllama.server.sockets import describe
from pyllama.server.state import ServerState
from pyllama.server.websocket import stream as websocket_stream

if TYPE_CHECKING:
    from pyllama._core import _llama

__all__ = ["Server", "run_server"]

# A load that fails on the file's header or its tensors' bounds does so within this time, and then the port
# was never opened; a load that takes longer answers 503 meanwhile.
_LOAD_HEAD_START = 1.0
# Connections the kernel may hold for us: enough for all clients of a busy server at once after a restart.
_BACKLOG = 2048
# Seconds for the error events of the requests that were cut off to reach their clients.
_LAST_WORDS = 2.0

# The loop's turns on a core that ggml computes on: it sends what is there and waits again.
_LOOP_SLICE_US = 100

# Descriptors that we take, and those that are left to files and pipes when all others are connections.
_MOST_DESCRIPTORS = 65_536
_RESERVED_DESCRIPTORS = 64

_SHUTDOWN_MESSAGE = "the server is shutting down"


class _BoundConfig(Config):
    """Hypercorn's configuration, on sockets that are bound already."""

    def __init__(self, settings: Settings, sockets: list[socket.socket]) -> None:
        super().__init__()
        self._bound = sockets
        self._headers_of = 0
        self._headers: dict[str, list[tuple[bytes, bytes]]] = {}
        self.loglevel = "WARNING"
        self.include_server_header = False
        self.backlog = _BACKLOG
        # Also the time a client gets to send its headers: Hypercorn's timer runs until the first request is
        # whole. Load balancers keep connections for about a minute.
        self.keep_alive_timeout = 75
        # Long-lived clients poll and chat over one connection; only a leak would need a limit.
        self.keep_alive_max_requests = 1_000_000
        # No read timeout: it would also cut a client that is silent because it listens to a long answer. A
        # slow body is cut by our own limit.
        self.read_timeout = None
        # All headers of a request together; long bearer tokens and cookies fit.
        self.h11_max_incomplete_size = 64 * 1024
        self.h2_max_concurrent_streams = 256
        self.websocket_max_message_size = settings.max_socket_message
        self.websocket_ping_interval = settings.sse_ping_interval if settings.sse_ping_interval > 0 else None
        # Everything has ended before Hypercorn's shutdown begins.
        self.graceful_timeout = 1
        if settings.tls:
            self.certfile = settings.ssl_file_cert
            self.keyfile = settings.ssl_file_key

    def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:
        """As Hypercorn's; formatted once a second."""
        now = int(time.time())
        if now != self._headers_of:
            self._headers_of = now
            self._headers = {}
        headers = self._headers.get(protocol)
        if headers is None:
            headers = self._headers[protocol] = super().response_headers(protocol)
        return headers

    def create_sockets(self) -> Sockets:
        secure = self._bound if self.ssl_enabled else []
        return Sockets(secure, [] if secure else self._bound, [])


class Server:
    """One server on bound sockets. ``load`` makes the engine and runs on a thread of its own."""

    def __init__(
        self,
        settings: Settings,
        sockets: list[socket.socket],
        load: Callable[[], tuple[_llama.Engine, _llama.Waker]],
        announce: Callable[[list[str]], None],
    ) -> None:
        self._settings = settings
        self._sockets = sockets
        self._load = load
        self._announce = announce
        self._signalled = asyncio.Event()
        self._ended = asyncio.Event()
        self._loaded = asyncio.get_running_loop().create_future()
        self._n_signals = 0

    @property
    def loading(self) -> bool:
        """Whether the load thread is still at it."""
        return not self._loaded.done()

    async def run(self) -> int:
        """Serve until a signal; return the exit code. Needs a ServerLoop."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ServerLoop)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal)
        # A daemon: a signal during a long load ends the process without waiting for it.
        threading.Thread(target=self._load_on_thread, args=(loop,), name="pyllama-load", daemon=True).start()
        signalled = asyncio.create_task(self._signalled.wait())
        await asyncio.wait(
            {self._loaded, signalled}, timeout=_LOAD_HEAD_START, return_when=asyncio.FIRST_COMPLETED
        )
        if self._loaded.done() and self._loaded.exception() is not None:
            return _say(f"{self._loaded.exception()}")
        if self._signalled.is_set() and not self._loaded.done():
            return 0

        try:
            for sock in self._sockets:
                sock.listen(_BACKLOG)  # now, so that the port is open when we say so
        except OSError as exc:
            return _say(f"cannot listen: {exc.strerror}")
        state = ServerState(self._settings)
        serving = asyncio.create_task(
            hypercorn_serve(
                cast(Framework, create_app(state)),
                _BoundConfig(self._settings, self._sockets),
                shutdown_trigger=self._ended.wait,
                mode="asgi",
            )
        )
        await asyncio.wait({self._loaded, signalled, serving}, return_when=asyncio.FIRST_COMPLETED)
        try:
            if self._loaded.done() and self._loaded.exception() is not None:
                return _say(f"{self._loaded.exception()}")
            if self._loaded.done():
                await self._serve(loop, state, serving, signalled)
            if serving.done() and serving.exception() is not None:
                return _say(f"the server stopped: {serving.exception()}")
            return 0
        finally:
            signalled.cancel()
            await self._end(loop, state, serving)

    async def _serve(
        self,
        loop: ServerLoop,
        state: ServerState,
        serving: asyncio.Task[None],
        signalled: asyncio.Task[bool],
    ) -> None:
        from pyllama._core import _llama

        engine, waker = self._loaded.result()
        state.attach(engine, waker)
        # What is there by now stays: the collector need not look through it again.
        gc.collect()
        gc.freeze()
        _llama.set_time_slice(_LOOP_SLICE_US)
        try:
            self._announce([describe(sock, tls=self._settings.tls) for sock in self._sockets])
            await asyncio.wait({serving, signalled}, return_when=asyncio.FIRST_COMPLETED)
            loop.stop_accepting()
            state.drain()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._settings.shutdown_timeout):
                    await state.wait_idle()
            engine.shutdown(_SHUTDOWN_MESSAGE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS):
                    await state.wait_idle()
        finally:
            await asyncio.to_thread(engine.close)
            state.detach()

    async def _end(self, loop: ServerLoop, state: ServerState, serving: asyncio.Task[None]) -> None:
        state.drain()
        loop.stop_accepting()
        self._ended.set()
        # Hypercorn closes idle connections now; whatever still hangs after a moment has nothing to say.
        done, _ = await asyncio.wait({serving}, timeout=0.2)
        if not done:
            loop.abort_connections()
            done, _ = await asyncio.wait({serving}, timeout=_LAST_WORDS)
        if not done:
            serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)

    def _load_on_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            finish = partial(self._finish_load, result=self._load())
        except BaseException as exc:
            finish = partial(self._finish_load, error=exc)
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(finish)

    def _finish_load(
        self,
        result: tuple[_llama.Engine, _llama.Waker] | None = None,
        error: BaseException | None = None,
    ) -> None:
        if error is not None:
            self._loaded.set_exception(error)
        else:
            self._loaded.set_result(result)

    def _on_signal(self) -> None:
        self._n_signals += 1
        if self._n_signals > 1:
            _say("ended by a second signal")
            sys.stdout.flush()
            os._exit(1)
        self._signalled.set()


def run_server(
    settings: Settings,
    sockets: list[socket.socket],
    load: Callable[[], tuple[_llama.Engine, _llama.Waker]],
    announce: Callable[[list[str]], None],
) -> int:
    """Serve on an event loop of our own until a signal comes; return the exit code."""
    websocket_stream.install()
    make_loop = partial(ServerLoop, _raise_descriptor_limit() - _RESERVED_DESCRIPTORS)

    async def main() -> tuple[int, bool]:
        server = Server(settings, sockets, load, announce)
        return await server.run(), server.loading

    with asyncio.Runner(loop_factory=make_loop) as runner:
        code, loading = runner.run(main())
    if loading:
        # The load thread is inside llama.cpp and cannot be interrupted; the interpreter must not be torn
        # down below it.
        sys.stdout.flush()
        os._exit(code)
    return code


def _raise_descriptor_limit() -> int:
    """Let the process have as many descriptors as it may; return how many. Many systems start with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return _MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft


def _say(message: str) -> int:
    complain(message)
    return 1
