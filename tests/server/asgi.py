"""A hand-driven ASGI client: the test decides when the body comes and when the client goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

from fake_core import Engine, Waker

from pyllama.server.app import create_app
from pyllama.server.settings import Settings
from pyllama.server.state import ServerState

CHAT = "/v1/chat/completions"


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


class Client:
    def __init__(self, engine: Engine, state: ServerState) -> None:
        self.engine = engine
        self.state = state
        self.app = create_app(state)
        self.calls: list[Call] = []

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
        await asyncio.wait_for(state.wait_idle(), 20)
        assert all(stream.n_subscribers == 0 for stream in engine.streams)
        assert all(call.max_at_once <= 1 for call in client.calls)
    finally:
        for call in client.calls:
            call.task.cancel()
        state.detach()
