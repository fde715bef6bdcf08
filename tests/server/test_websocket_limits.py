"""What one socket may take, how its requests share it, and how it ends: over the fake core."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgi import serving
from socket_messages import DONE, begin, chunk, create, done, event

pytestmark = pytest.mark.anyio


async def test_a_slow_socket_reads_nothing_ahead() -> None:
    async with serving() as client:
        slow, fast = await client.socket(), await client.socket()
        first = await begin(client, slow, "r1")
        second = await begin(client, slow, "r2")
        neighbour = await begin(client, fast, "r3")
        slow.blocked = asyncio.Event()
        first.append(event("a"))
        await slow.until(lambda socket: socket.n_blocked == 1)
        n_reads = [0]
        read_events = second.read_events

        def counted(*args: Any) -> Any:
            n_reads[0] += 1
            return read_events(*args)

        second.read_events = counted
        for _ in range(100):
            second.append(event("b"))
            neighbour.append(event("c"))
        assert [message["data"]["choices"] for message in await fast.next(100)] == [["c"]] * 100
        assert n_reads == [0]
        assert slow.messages == []
        slow.blocked.set()
        assert (await slow.next(101))[0] == chunk("r1", 0, "a")
        assert n_reads[0] > 0


async def test_requests_take_turns() -> None:
    async with serving() as client:
        socket = await client.socket()
        streams = [await begin(client, socket, str(number)) for number in range(4)]
        socket.blocked = asyncio.Event()
        for stream in streams:
            stream.append(event("x"))
        await socket.until(lambda socket: socket.n_blocked == 1)
        # One has a long backlog, which takes many turns.
        for _ in range(3000):
            streams[0].append(event("y" * 400))
        socket.blocked.set()
        socket.blocked = None
        messages = await socket.next(3004)
        places = {name: [m["request_id"] for m in messages].index(name) for name in "0123"}
        assert max(places.values()) < 1500, places


async def test_a_client_that_takes_nothing_is_dropped() -> None:
    async with serving(write_timeout=0.05) as client:
        socket = await client.socket()
        stream = await begin(client, socket)
        socket.blocked = asyncio.Event()
        stream.append(event("a"))
        await asyncio.to_thread(stream.cancelled.wait)
        socket.blocked.set()


async def test_requests_of_a_socket_are_limited() -> None:
    async with serving(max_socket_requests=2) as client:
        socket = await client.socket()
        for name in ("r1", "r2"):
            await begin(client, socket, name)
        socket.say(create("r3"))
        answer = await socket.next()
        assert (answer["request_id"], answer["error"]["code"]) == ("r3", 429)
        client.engine.streams[0].append(DONE)
        client.engine.streams[0].finish()
        await socket.next()
        await begin(client, socket, "r3")


async def test_bodies_that_wait_for_their_preparation_are_limited() -> None:
    async with serving(max_socket_message=1000) as client:
        socket = await client.socket()
        client.engine.may_prepare.clear()
        for number in range(8):
            socket.say(create(f"r{number}", body={"messages": [], "text": "x" * 400}))
        socket.say({"type": "cancel", "request_id": "nobody"})
        await asyncio.to_thread(client.engine.preparing.wait)
        for _ in range(100):
            await asyncio.sleep(0)
        assert socket.messages == []  # the last one was not looked at
        client.engine.may_prepare.set()
        assert (await socket.next())["error"]["code"] == 404


async def test_a_request_that_waits_too_long_for_a_slot() -> None:
    async with serving(queue_timeout=0.02) as client:
        socket = await client.socket()
        socket.say(create("r1"))
        stream = (await client.streams(1))[0]
        await asyncio.to_thread(stream.cancelled.wait)
        stream.append(DONE)
        stream.finish()
        answer = await socket.next()
        assert (answer["request_id"], answer["error"]["code"]) == ("r1", 503)
        assert "--queue-timeout" in answer["error"]["message"]
        started = await begin(client, socket, "r2")
        started.append(event("a"))
        assert await socket.next() == chunk("r2", 0, "a")


async def test_draining_closes_idle_sockets_and_lets_requests_end() -> None:
    async with serving() as client:
        idle, busy = await client.socket(), await client.socket()
        stream = await begin(client, busy)
        client.state.drain()
        await idle.end()
        assert idle.closed == 1001
        busy.say(create("r2"))
        answer = await busy.next()
        assert (answer["request_id"], answer["error"]["code"]) == ("r2", 503)
        stream.append(DONE)
        stream.finish()
        assert await busy.next() == done("r1", 0)
        await busy.end()
        assert busy.closed == 1001
        late = await client.socket()
        assert late.status == 503
