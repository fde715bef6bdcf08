"""Tokens that go to the transport without their task, on a stand-in for a connection and the fake core."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgi import Call, Client, serving
from fake_core import Stream
from fake_transport import Socket

from pyllama.errors import EngineError
from pyllama.server.connections import Connection, current_connection

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def streaming(socket: Socket, **headers: str) -> AsyncIterator[tuple[Client, Call, Stream, Connection]]:
    """A request whose head is out and whose task waits."""
    connection = Connection(asyncio.get_running_loop(), socket)
    before = current_connection.set(connection)
    try:
        async with serving() as client:
            call = client.chat(
                {name.replace("_", "-"): value for name, value in headers.items()}, stream=True
            )
            stream = await client.stream_of(call)
            stream.start()
            stream.append(b"data: 0\n\n")
            await call.until(lambda call: call.body == b"data: 0\n\n")
            yield client, call, stream, connection
    finally:
        current_connection.reset(before)


async def until(condition: Any) -> None:
    for _ in range(1_000_000):
        if condition():
            return
        await asyncio.sleep(0)
    pytest.fail("it never came")


def chunk(text: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(text), text)


@pytest.mark.parametrize("headers", [{}, {"x_conversation_id": "c"}])
async def test_tokens_go_straight_to_the_transport(headers: dict[str, str]) -> None:
    socket = Socket()
    async with streaming(socket, **headers) as (_, call, stream, _connection):
        expected = []
        for number in range(1, 5):
            stream.append(b"data: %d\n\n" % number)
            expected.append(chunk(b"data: %d\n\n" % number))
            await until(lambda: socket.writes == expected)
        stream.append(b"data: 5\n\n")
        stream.append(b"data: [DONE]\n\n")
        stream.finish()  # the end is the task's
        await call.end()
        assert socket.writes == expected
        assert call.body == b"data: 0\n\ndata: 5\n\ndata: [DONE]\n\n"
        assert call.complete


async def test_a_transport_that_is_full_leaves_it_to_the_task() -> None:
    socket = Socket(room=4)
    async with streaming(socket) as (_, call, stream, _connection):
        stream.append(b"data: 1\n\n")
        await until(lambda: socket.writes == [chunk(b"data: 1\n\n")])
        stream.append(b"data: 2\n\n")
        await call.until(lambda call: call.body.endswith(b"data: 2\n\n"))
        socket.take_all()
        stream.append(b"data: 3\n\n")
        await until(lambda: len(socket.writes) == 2)
        stream.finish()
        await call.end()


@pytest.mark.parametrize("reason", [EngineError("the ring is gone"), RuntimeError("a defect")])
async def test_an_error_is_its_own_tasks_and_hurts_nobody_else(reason: Exception) -> None:
    socket = Socket()
    async with streaming(socket) as (client, call, stream, _connection):
        other = client.chat(stream=True)
        streams = await client.streams(2)
        streams[1].start()
        streams[1].append(b"data: 0\n\n")
        await other.until(lambda call: call.body == b"data: 0\n\n")

        def fail(*_: Any) -> Any:
            raise reason

        stream.read = fail  # type: ignore[method-assign]
        stream.append(b"data: 1\n\n")
        streams[1].append(b"data: 1\n\n")
        await until(lambda: socket.writes == [chunk(b"data: 1\n\n")])
        stream.state = "finished"
        if isinstance(reason, EngineError):
            await call.until(lambda call: b"the ring is gone" in call.body)
        else:
            with pytest.raises(RuntimeError, match="a defect"):
                await call.task
            client.calls.remove(call)
        streams[1].finish()


async def test_a_client_that_leaves_is_heard_of_from_its_connection() -> None:
    socket = Socket()
    async with streaming(socket) as (_, call, stream, connection):
        stream.on_cancel = stream.finish
        connection.note_gone()
        await call.task
        assert stream.cancelled.is_set()


async def test_a_client_that_left_before_it_was_asked_about_is_heard_of_too() -> None:
    connection = Connection(asyncio.get_running_loop(), Socket())
    before = current_connection.set(connection)
    try:
        async with serving() as client:
            call = client.call("POST", "/v1/chat/completions", {"content-length": "2"})
            await asyncio.sleep(0)
            connection.note_gone()
            call.give(b"{}")
            await call.task
            assert call.status == 0
            assert client.engine.streams == []
    finally:
        current_connection.reset(before)
