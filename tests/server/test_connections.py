"""What lies between Hypercorn and the socket: a real server loop, real sockets, a few lines of application.

Hypercorn is held here to what we rely on: it writes through the transport that its protocol was given, and
never reads one exchange's chunks from anywhere else.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fake_transport import Socket
from hypercorn.asyncio import serve
from hypercorn.config import Config, Sockets
from starlette.types import Receive, Scope, Send

from pyllama.server import connections
from pyllama.server.connections import ChunkWriter, connection_of
from pyllama.server.server_loop import ServerLoop
from pyllama.server.transport import CoalescingTransport

HEAD = b"HTTP/1.1 200 "
REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def on_a_loop(test: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await test()

    with asyncio.Runner(loop_factory=ServerLoop) as runner:
        runner.run(run())


def test_writes_of_one_turn_are_one() -> None:
    async def test() -> None:
        below = Socket()
        transport = CoalescingTransport(below, asyncio.get_running_loop())
        transport.write(b"a")
        transport.writelines([b"b", bytearray(b"c")])
        assert below.writes == []
        assert transport.get_write_buffer_size() == 3
        assert not transport.idle
        await asyncio.sleep(0)
        assert below.writes == [b"abc"]
        assert transport.idle
        transport.write(b"d")
        transport.write_now(b"e")
        transport.write_now(b"f")
        await asyncio.sleep(0)
        assert below.writes == [b"abc", b"de", b"f"]

    on_a_loop(test)


def test_much_is_not_held_back() -> None:
    async def test() -> None:
        below = Socket(room=10)
        transport = CoalescingTransport(below, asyncio.get_running_loop())
        transport.write(b"x" * 100_000)
        assert below.writes == [b"x" * 100_000]  # so that a drain() that follows waits
        assert transport.get_write_buffer_size() == 99_990
        assert not transport.idle

    on_a_loop(test)


def test_what_changes_afterwards_is_sent_as_it_was() -> None:
    async def test() -> None:
        below = Socket()
        transport = CoalescingTransport(below, asyncio.get_running_loop())
        data = bytearray(b"old")
        transport.write(data)
        data[:] = b"new"
        transport.flush()
        assert below.writes == [b"old"]

    on_a_loop(test)


@pytest.mark.parametrize(("end", "expected"), [("close", [b"a"]), ("write_eof", [b"a"]), ("abort", [])])
def test_an_end_sends_what_was_written_before(end: str, expected: list[bytes]) -> None:
    async def test() -> None:
        below = Socket()
        transport = CoalescingTransport(below, asyncio.get_running_loop())
        transport.write(b"a")
        getattr(transport, end)()
        assert below.writes == expected
        assert below.ends
        assert not transport.idle
        await asyncio.sleep(0)
        assert below.writes == expected

    on_a_loop(test)


def test_nothing_is_written_after_the_end() -> None:
    async def test() -> None:
        transport = CoalescingTransport(Socket(), asyncio.get_running_loop())
        transport.write_eof()
        with pytest.raises(RuntimeError):
            transport.write(b"late")
        assert transport.get_write_buffer_size() == 0

    on_a_loop(test)


def with_server(app: Any, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Serve an application with Hypercorn, talk to it, and return the writes that reached the socket."""
    written: list[bytes] = []

    class Recording(CoalescingTransport):
        def flush(self) -> None:
            if self._held:
                written.append(b"".join(self._held))
            super().flush()

        def write_now(self, data: bytes) -> None:
            if not self._held:
                written.append(data)
            super().write_now(data)

    monkeypatch.setattr(connections, "CoalescingTransport", Recording)

    async def test() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ServerLoop)
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        config = Config()
        config.loglevel = "WARNING"
        config.create_sockets = lambda: Sockets([], [sock], [])  # type: ignore[method-assign]
        ended = asyncio.Event()
        serving = asyncio.create_task(serve(app, config, shutdown_trigger=ended.wait))
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        await talk(reader, writer)
        writer.close()
        ended.set()
        await serving

    on_a_loop(test)
    return written


def http_only(app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> Any:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await app(scope, receive, send)

    return wrapped


def test_hypercorns_pieces_go_out_together(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await go_on.wait()
        chunks = ChunkWriter(scope["http_version"])
        assert chunks.ready
        chunks.write(b"second")
        assert chunks.ready
        await send({"type": "http.response.body", "body": b"last", "more_body": False})

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):  # the connection is kept
            go_on.clear()
            writer.write(REQUEST)
            await reader.readuntil(b"first\r\n")
            go_on.set()
            assert await reader.readuntil(b"0\r\n\r\n") == b"6\r\nsecond\r\n4\r\nlast\r\n0\r\n\r\n"

    written = with_server(http_only(app), talk, monkeypatch)
    assert len(written) == 6
    for head, chunk, end in (written[:3], written[3:]):
        assert head.startswith(HEAD)
        assert head.endswith(b"\r\n\r\n5\r\nfirst\r\n")
        assert chunk == b"6\r\nsecond\r\n"
        assert end == b"4\r\nlast\r\n0\r\n\r\n"


def test_a_client_that_leaves_is_heard_of_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, gone = asyncio.Event(), asyncio.Event()
    told: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        connection = connection_of(scope)
        assert connection is not None
        assert not connection.gone
        connection.on_gone(gone.set)
        connection.on_gone(lambda: told.append("kept"))
        dropped = lambda: told.append("dropped")  # noqa: E731
        connection.on_gone(dropped)
        connection.forget(dropped)
        connection.forget(dropped)
        begun.set()
        await gone.wait()
        assert connection.gone

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(REQUEST)
        await begun.wait()
        writer.write_eof()
        await gone.wait()
        await reader.read()

    with_server(http_only(app), talk, monkeypatch)
    assert told == ["kept"]


def test_the_date_is_hypercorns() -> None:
    from pyllama.server.serve import _BoundConfig
    from pyllama.server.settings import Settings

    config, plain = _BoundConfig(Settings(), []), Config()
    plain.include_server_header = False
    found = [config.response_headers("h11") for _ in range(3)]
    assert [[name for name, _ in headers] for headers in found] == [[b"date"]] * 3
    assert len(found[0][0][1]) == len(plain.response_headers("h11")[0][1])
