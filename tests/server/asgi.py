"""A hand-driven ASGI client: the test decides when the body comes and when the client goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

from fake_core import Engine, Waker

from pyllama.server.app import create_app
from pyllama.server.settings import Settings
from pyllama.server.state import ServerState

CHAT = "/v1/chat/completions"
SOCKET = "/v1/chat/completions/socket"


class Call:
    """One request that is running in a task of its own."""

    def __init__(self, app: Any, method: str, path: str, headers: Mapping[str, str], query: str) -> None:
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False
        self.blocked: asyncio.Event | None = None
        self.n_reads = 0
        self.n_at_once = 0
        self.max_at_once = 0
        raw_path, _, in_path = path.partition("?")
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": unquote(raw_path),
            "raw_path": raw_path.encode(),
            "query_string": (query or in_path).encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        self.n_at_once += 1
        self.max_at_once = max(self.max_at_once, self.n_at_once)
        try:
            return await self._incoming.get()
        finally:
            self.n_at_once -= 1

    async def _send(self, message: Any) -> None:
        if self.blocked is not None:
            await self.blocked.wait()
        async with self._changed:
            if message["type"] == "http.response.start":
                assert self.status == 0
                self.status = message["status"]
                self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            else:
                self.body += message.get("body", b"")
                self.complete = not message.get("more_body", False)
            self._changed.notify_all()

    def give(self, data: bytes, *, more: bool = False) -> None:
        self._incoming.put_nowait({"type": "http.request", "body": data, "more_body": more})

    def leave(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def until(self, condition: Callable[[Call], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: condition(self))

    async def end(self) -> Call:
        await self.task
        return self

    def json(self) -> Any:
        return json.loads(self.body)


class Socket:
    """One WebSocket whose server side runs in a task of its own."""

    def __init__(
        self, app: Any, path: str, headers: Mapping[str, str], subprotocols: Sequence[str], query: bytes
    ) -> None:
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self.accepted = False
        self.subprotocol: str | None = None
        self.closed: int | None = None
        self.status = 0
        self.body = b""
        self.headers: dict[str, str] = {}
        self.messages: list[Any] = []
        self.blocked: asyncio.Event | None = None
        self.n_blocked = 0
        scope = {
            "type": "websocket",
            "http_version": "1.1",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "subprotocols": list(subprotocols),
            "extensions": {"websocket.http.response": {}},
        }
        self._incoming.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(app(scope, self._incoming.get, self._send))

    async def _send(self, message: Any) -> None:
        if self.blocked is not None:
            self.n_blocked += 1
            async with self._changed:
                self._changed.notify_all()
            await self.blocked.wait()
        async with self._changed:
            kind = message["type"]
            if kind == "websocket.accept":
                self.accepted = True
                self.subprotocol = message.get("subprotocol")
            elif kind == "websocket.send":
                assert self.closed is None
                self.messages.append(json.loads(message["text"]))
            elif kind == "websocket.close":
                self.closed = message["code"]
            elif kind == "websocket.http.response.start":
                self.status = message["status"]
                self.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
            else:
                assert kind == "websocket.http.response.body", kind
                self.body += message["body"]
            self._changed.notify_all()

    def say(self, message: Any) -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        self._incoming.put_nowait({"type": "websocket.receive", "text": text, "bytes": None})

    def say_bytes(self, data: bytes) -> None:
        self._incoming.put_nowait({"type": "websocket.receive", "text": None, "bytes": data})

    def leave(self) -> None:
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def until(self, condition: Callable[[Socket], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: condition(self))

    async def next(self, n: int = 1) -> Any:
        """Wait for messages and take them: the only one, or a list."""
        await asyncio.wait_for(self.until(lambda socket: len(socket.messages) >= n), 20)
        taken, self.messages = self.messages[:n], self.messages[n:]
        return taken[0] if n == 1 else taken

    async def end(self) -> Socket:
        await asyncio.wait_for(self.task, 20)
        return self


class Client:
    def __init__(self, engine: Engine, state: ServerState) -> None:
        self.engine = engine
        self.state = state
        self.app = create_app(state)
        self.calls: list[Call] = []
        self.sockets: list[Socket] = []

    def call(self, method: str, path: str, headers: Mapping[str, str] | None = None, query: str = "") -> Call:
        call = Call(self.app, method, path, headers or {}, query)
        self.calls.append(call)
        return call

    def chat(self, headers: Mapping[str, str] | None = None, **fields: Any) -> Call:
        body = json.dumps({"messages": [], **fields}).encode()
        call = self.call("POST", CHAT, {"content-length": str(len(body)), **(headers or {})})
        call.give(body)
        return call

    async def get(self, path: str, headers: Mapping[str, str] | None = None, query: str = "") -> Call:
        call = self.call("GET", path, headers, query)
        call.give(b"")
        return await call.end()

    async def socket(
        self,
        path: str = SOCKET,
        headers: Mapping[str, str] | None = None,
        subprotocols: Sequence[str] = (),
        query: bytes = b"",
    ) -> Socket:
        """Open a socket, or see it refused."""
        socket = Socket(self.app, path, headers or {}, subprotocols, query)
        self.sockets.append(socket)
        await socket.until(lambda socket: socket.accepted or socket.body != b"" or socket.closed is not None)
        return socket

    async def streams(self, n: int) -> list[Any]:
        """Wait until so many requests were put into the engine, and return their streams."""
        for _ in range(1_000_000):
            if len(self.engine.streams) >= n:
                break
            await asyncio.sleep(0)
        return self.engine.streams

    async def stream_of(self, call: Call) -> Any:
        """Wait until the call's request is in the engine."""
        while not self.engine.streams:
            assert not call.task.done(), call.body
            await asyncio.sleep(0)
        return self.engine.streams[-1]


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Client]:
    """A ready server on a fake engine; every call must have ended at the end."""
    engine = Engine()
    engine.sse_ping_interval = settings.get("sse_ping_interval", 30)
    state = ServerState(Settings(**settings))
    state.attach(engine, Waker())  # type: ignore[arg-type]
    client = Client(engine, state)
    try:
        yield client
        for call in client.calls:
            await asyncio.wait_for(call.task, 20)
        for socket in client.sockets:
            socket.leave()
            await socket.end()
        await asyncio.wait_for(state.wait_idle(), 20)
        assert all(stream.n_subscribers == 0 for stream in engine.streams)
        assert all(call.max_at_once <= 1 for call in client.calls)
    finally:
        for call in client.calls:
            call.task.cancel()
        for socket in client.sockets:
            socket.task.cancel()
        state.detach()
