"""Many requests on one socket, over the fake core: how they begin, end, and come back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from asgi import Socket, serving
from socket_messages import DONE, begin, chunk, create, done, event, resume

from pyllama.errors import EngineBusyError, EngineError

pytestmark = pytest.mark.anyio


async def refused(socket: Socket, message: Any, code: int = 400) -> str:
    """Say something and see it refused, without an id."""
    socket.say(message)
    answer = await socket.next()
    assert (answer["type"], answer["request_id"], answer["error"]["code"]) == ("error", None, code)
    return str(answer["error"]["message"])


async def test_a_request_is_chunks_and_done() -> None:
    async with serving() as client:
        socket = await client.socket()
        assert socket.subprotocol is None
        stream = await begin(client, socket)
        assert stream.body == {"messages": [], "stream": True}
        stream.append(event("a"))
        stream.append(event("b"))
        assert await socket.next(2) == [chunk("r1", 0, "a"), chunk("r1", 1, "b")]
        stream.append(DONE)
        stream.finish()
        assert await socket.next() == done("r1", 2)
        # The id is free again, and the socket still there.
        again = await begin(client, socket)
        again.append(DONE)
        again.finish()
        assert await socket.next() == done("r1", 0)
        assert not stream.cancelled.is_set()


async def test_streaming_cannot_be_switched_off() -> None:
    async with serving() as client:
        socket = await client.socket()
        for body in ("{}", '{"stream":false}', '{ "n":1 , "stream" : null }'):
            number = len(client.engine.streams)
            socket.say(f'{{"type":"chat.completion.create","request_id":"{number}","body":{body}}}')
            assert (await client.streams(number + 1))[number].body["stream"] is True


async def test_an_error_in_the_stream_and_one_before_it() -> None:
    async with serving() as client:
        socket = await client.socket()
        stream = await begin(client, socket)
        stream.append(event("a"))
        stream.append(b'data: {"error":{"code":500,"message":"x"}}\n\n')
        stream.finish(EngineError("x"))
        error = {"code": 500, "message": "x"}
        expected = {"type": "error", "request_id": "r1", "event_id": 1, "error": error}
        assert await socket.next(2) == [chunk("r1", 0, "a"), expected]
        queued = await begin(client, socket)
        queued.finish(EngineError("decode failed"))
        answer = await socket.next()
        assert (answer["request_id"], answer["error"]["message"]) == ("r1", "decode failed")
        client.engine.refuse = EngineBusyError("the queue is full")
        socket.say(create("r2"))
        answer = await socket.next()
        assert (answer["request_id"], answer["error"]["code"]) == ("r2", 429)


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        ("", 400, "byte 0"),
        ("{", 400, "not a JSON object"),
        ("null", 400, "not a JSON object"),
        ("[1]", 400, "not a JSON object"),
        ({}, 400, "'type' is required"),
        ({"type": 1}, 400, "'type' must be a string"),
        ({"type": "x" * 65}, 400, "at most 64"),
        ({"type": "session.update"}, 501, "session.update"),
        ({"type": "chat.completion.create", "body": {}}, 400, "'request_id' is required"),
        (create(""), 400, "'request_id' is required"),
        (create("x" * 257), 400, "at most 256"),
        ('{"type":"cancel","request_id":"\\q"}', 400, "request_id"),
        ({"type": "cancel", "request_id": ["r1"]}, 400, "request_id"),
        ({"type": "cancel", "request_id": "nobody"}, 404, "nobody"),
        ({"type": "resume"}, 400, "'conversation_id' is required"),
        ({"type": "control", "action": "stop"}, 400, "'request_id' is required"),
        ({str(number): 0 for number in range(65)}, 400, "more than 64 members"),
        ('{"type":"cancel","\\q":1}', 400, "name is not JSON"),
    ],
)
async def test_bad_messages_leave_the_socket_alone(message: Any, code: int, words: str) -> None:
    async with serving() as client:
        socket = await client.socket()
        stream = await begin(client, socket, "other")
        assert words in await refused(socket, message, code)
        stream.append(event("a"))
        assert await socket.next() == chunk("other", 0, "a")
        assert not stream.cancelled.is_set()


@pytest.mark.parametrize("body", [None, "text", [], 1])
async def test_a_bad_body_is_told_under_its_id(body: Any) -> None:
    async with serving() as client:
        socket = await client.socket()
        socket.say({"type": "chat.completion.create", "request_id": "r1", "body": body})
        answer = await socket.next()
        assert (answer["request_id"], answer["error"]["param"]) == ("r1", "body")
        socket.say('{"type":"chat.completion.create","request_id":"r1","body":{"a":[1,,2]}}')
        answer = await socket.next()
        assert (answer["request_id"], answer["error"]["code"]) == ("r1", 400)


async def test_binary_messages_are_text() -> None:
    async with serving() as client:
        socket = await client.socket()
        socket.say_bytes(b'{"type":"cancel","request_id":"nobody"}')
        assert (await socket.next())["error"]["code"] == 404
        socket.say_bytes(b"\xff\xfe\x00")
        assert (await socket.next())["error"]["code"] == 400


async def test_ids_are_escaped() -> None:
    async with serving() as client:
        socket = await client.socket()
        for name in ('"},{"', "\\", "\u0000", "\ud800", "\u00fc\U0001f600", "</script>", "\n\n"):
            stream = await begin(client, socket, name)
            stream.append(event("a"))
            stream.append(DONE)
            stream.finish()
            assert await socket.next(2) == [chunk(name, 0, "a"), done(name, 1)]


async def test_an_id_that_is_in_use() -> None:
    async with serving() as client:
        socket = await client.socket()
        stream = await begin(client, socket)
        assert "'r1' is in use" in await refused(socket, create("r1"))
        assert "'r1' is in use" in await refused(socket, resume("c1", request_id="r1"))
        stream.append(event("a"))
        assert await socket.next() == chunk("r1", 0, "a")
        assert len(client.engine.streams) == 1


async def test_an_id_is_free_before_its_end_is_seen() -> None:
    async with serving() as client:
        socket = await client.socket()
        stream = await begin(client, socket)
        socket.blocked = asyncio.Event()
        stream.append(DONE)
        stream.finish()
        await socket.until(lambda socket: socket.n_blocked == 1)
        again = await begin(client, socket)
        socket.blocked.set()
        again.append(event("a"))
        assert await socket.next(2) == [done("r1", 0), chunk("r1", 0, "a")]


async def test_cancel_lets_the_end_come() -> None:
    async with serving() as client:
        socket = await client.socket()
        stream = await begin(client, socket)
        stream.append(event("a"))
        await socket.next()
        socket.say({"type": "cancel", "request_id": "r1"})
        await asyncio.to_thread(stream.cancelled.wait)
        stream.append(DONE)
        stream.finish()
        assert await socket.next() == done("r1", 1)


async def test_cancel_while_it_is_prepared() -> None:
    async with serving() as client:
        socket = await client.socket()
        client.engine.may_prepare.clear()
        socket.say(create("r1"))
        await asyncio.to_thread(client.engine.preparing.wait)
        socket.say({"type": "cancel", "request_id": "r1"})
        assert "nobody" in await refused(socket, {"type": "cancel", "request_id": "nobody"}, 404)
        client.engine.may_prepare.set()
        stream = (await client.streams(1))[0]
        await asyncio.to_thread(stream.cancelled.wait)
        stream.start()
        stream.append(DONE)
        stream.finish()
        assert await socket.next() == done("r1", 0)


async def test_closing_cancels_what_has_no_conversation() -> None:
    async with serving() as client:
        socket = await client.socket()
        alone = await begin(client, socket, "r1")
        kept = await begin(client, socket, "r2", conversation_id="c1")
        socket.leave()
        await socket.end()
        assert alone.cancelled.is_set()
        assert not kept.cancelled.is_set()
        kept.append(event("a"))
        back = await client.socket()
        back.say(resume("c1"))
        assert await back.next() == chunk("r2", 0, "a")  # under the name it had
        kept.append(DONE)
        kept.finish()
        assert await back.next() == done("r2", 1)


async def test_closing_while_a_request_is_prepared() -> None:
    async with serving() as client:
        socket = await client.socket()
        client.engine.may_prepare.clear()
        socket.say(create("r1"))
        await asyncio.to_thread(client.engine.preparing.wait)
        socket.leave()
        client.engine.may_prepare.set()
        await socket.end()
        assert client.engine.streams == []


async def test_resume() -> None:
    async with serving() as client:
        socket = await client.socket()
        stream = await begin(client, socket, "r1", conversation_id="c1")
        for text in "abc":
            stream.append(event(text))
        await socket.next(3)
        socket.leave()
        await socket.end()
        stream.append(event("d"))
        back = await client.socket()
        back.say(resume("c1", 1, request_id="mine"))
        assert await back.next(2) == [chunk("mine", 2, "c"), chunk("mine", 3, "d")]
        other = await client.socket()
        other.say(resume("c1", 3))
        stream.append(DONE)
        stream.finish()
        assert await back.next() == done("mine", 4)
        assert await other.next() == done("r1", 4)
        # Ended: all of it again, or the bare end for whoever has everything.
        back.say(resume("c1", request_id="again"))
        assert (await back.next(5))[4] == done("again", 4)
        back.say(resume("c1", 4, request_id="nothing"))
        assert await back.next() == done("nothing", None)


async def test_what_cannot_be_resumed() -> None:
    async with serving(api_keys=("one", "two")) as client:
        mine = await client.socket(headers={"authorization": "Bearer one"})
        stream = await begin(client, mine, "r1", conversation_id="c1")
        stream.append(event("a"))
        await mine.next()
        theirs = await client.socket(headers={"authorization": "Bearer two"})
        for socket, message, code in (
            (theirs, resume("c1"), 404),
            (mine, resume("c2"), 404),
            (mine, resume("c1", 7, request_id="r2"), 400),
        ):
            socket.say(message)
            answer = await socket.next()
            assert answer["error"]["code"] == code
            assert answer["request_id"] == message.get("request_id", message["conversation_id"])
        for after in (-1, 1.5, "1", [], 10**30, True):
            mine.say({**resume("c1"), "after": after, "request_id": "r2"})
            answer = await mine.next()
            assert (answer["request_id"], answer["error"]["param"]) == ("r2", "after")
        theirs.say({"type": "control", "request_id": "r1", "action": "stop"})
        assert (await theirs.next())["data"]["success"] is False
        stream.finish()


async def test_a_conversation_that_is_replaced_deleted_or_expired() -> None:
    async with serving(stream_retention=0.01) as client:
        socket = await client.socket()
        first = await begin(client, socket, "r1", conversation_id="c1")
        second = await begin(client, socket, "r2", conversation_id="c1")
        for request_id, word in (("r1", "replaced"), ("r2", "deleted")):
            answer = await socket.next()
            assert (answer["request_id"], answer["error"]["code"]) == (request_id, 404)
            assert word in answer["error"]["message"]
            client.state.sessions.delete(b"", "c1")
        assert first.cancelled.is_set()
        assert second.cancelled.is_set()
        third = await begin(client, socket, "r3", conversation_id="c1")
        third.append(DONE)
        third.finish()
        assert await socket.next() == done("r3", 0)
        for _ in range(10_000):
            if client.state.sessions.n_kept == 0:
                break
            await asyncio.sleep(0.001)
        socket.say(resume("c1"))
        assert (await socket.next())["error"]["code"] == 404


async def test_a_gap_ends_one_request_only() -> None:
    async with serving() as client:
        socket = await client.socket()
        stream = await begin(client, socket)
        other = await begin(client, socket, "r2")
        stream._data = b"x" * 100
        stream.forget_before(60)
        stream.append(b"")
        answer = await socket.next()
        assert (answer["request_id"], answer["error"]["type"]) == ("r1", "stream_gap_error")
        assert (answer["error"]["first_lost"], answer["error"]["first_kept"]) == (0, 60)
        assert stream.cancelled.is_set()
        other.append(event("a"))
        assert await socket.next() == chunk("r2", 0, "a")
