"""How a reader names a stream and where in it to go on, through the whole application."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import quote

import pytest
from asgi import serving
from stream_calls import EVENTS, delete, get, kept, lookup, post, started

from pyllama.server.conversation import conversation_of_request

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "name", ["a/b", "/", "a b", "c++", "héllo", "对话", "a::b/c:Q8_0", "x" * 10_000, "?&=%41"]
)
async def test_ids_in_path_and_query(name: str) -> None:
    async with serving() as client:
        await kept(client, name)
        raw = quote(name, safe="")
        for target in (f"/v1/stream/{raw}", f"/v1/stream?conv_id={raw}"):
            assert (await get(client, target).end()).body == b"".join(EVENTS)
        assert (await lookup(client, [name]))[0]["conversation_id"] == name
        assert await delete(client, f"/v1/stream/{raw}") == 204
        assert (await get(client, f"/v1/stream?conv_id={raw}").end()).status == 404


def test_an_id_in_latin_1_is_the_one_that_browsers_mean() -> None:
    for value, name in ((b"\xe9", "é"), (b"\xc3\xa9", "é"), (b" \t ", ""), (b" a b ", "a b")):
        assert conversation_of_request({"headers": [(b"x-conversation-id", value)]}) == name
    assert conversation_of_request({"headers": []}) == ""


async def test_no_id() -> None:
    async with serving() as client:
        for target in ("/v1/stream", "/v1/stream/", "/v1/stream?conv_id="):
            for method in ("GET", "DELETE"):
                call = client.call(method, target)
                call.give(b"")
                await call.end()
                assert call.status == 400
                assert call.json()["error"]["message"] == "Missing conversation id in path"


async def test_an_id_that_is_too_long_is_refused_before_anything_runs() -> None:
    async with serving() as client:
        call = await post(client, "x" * 20_000).end()
        assert call.status == 400
        assert call.json()["error"]["param"] == "X-Conversation-Id"
        assert not client.engine.streams


async def test_unknown_streams() -> None:
    async with serving() as client:
        call = await get(client).end()
        assert call.status == 404
        assert call.json()["error"] == {
            "code": 404,
            "message": "Stream not found or expired",
            "type": "not_found_error",
        }
        assert await delete(client) == 204
        assert await delete(client, "/v1/stream/a%0Ab%0A") == 204
        assert await lookup(client, ["c1"]) == []


@pytest.mark.parametrize(
    "offset", ["-1", "+1", "1.0", "x", "0x10", " 1", "1 ", "18446744073709551616", "9" * 40, "\u0661"]
)
async def test_offsets_that_are_none(offset: str) -> None:
    async with serving() as client:
        await kept(client)
        call = await get(client, f"/v1/stream/c1?from={quote(offset)}").end()
        assert call.status == 400
        assert call.json()["error"]["message"] == "Invalid 'from' offset"
        for target, headers in (
            (f"/v1/stream/c1?after={quote(offset)}", {}),
            ("/v1/stream/c1", {"last-event-id": "x" + quote(offset)}),
        ):
            assert (await get(client, target, headers).end()).status == 400


async def test_offsets_beyond_the_end() -> None:
    async with serving() as client:
        await kept(client)
        end = len(b"".join(EVENTS))
        for offset in (end, end + 1, 2**64 - 1):
            call = await get(client, f"/v1/stream/c1?from={offset}").end()
            assert (call.status, call.body) == (200, b"")
        assert (await get(client, "/v1/stream/c1?after=4").end()).body == b""
        call = await get(client, "/v1/stream/c1?after=5").end()
        assert call.status == 400
        assert call.json()["error"]["param"] == "after"


async def test_events_by_id() -> None:
    async with serving() as client:
        await kept(client)
        rest = b"".join(EVENTS[2:])
        assert (await get(client, "/v1/stream/c1?after=1").end()).body == rest
        assert (await get(client, "/v1/stream/c1?after=1&from=3").end()).body == rest
        call = get(client, "/v1/stream/c1?after=3&from=3", {"last-event-id": "1"})
        assert (await call.end()).body == rest


async def test_id_lines_are_added_on_request_and_count_in_no_offset() -> None:
    numbered = [b"id: %d\n" % number + event for number, event in enumerate(EVENTS)]
    asked = {"x-stream-event-ids": "1"}
    async with serving() as client:
        call, stream = await started(client, headers=asked)
        for event in EVENTS:
            stream.append(event)
        stream.finish()
        assert (await call.end()).body == b"".join(numbered)
        assert (await get(client, "/v1/stream/c1", asked).end()).body == b"".join(numbered)
        begin = len(EVENTS[0])
        call = get(client, f"/v1/stream/c1?from={begin}", asked)
        assert (await call.end()).body == b"".join(numbered[1:])
        call = get(client, f"/v1/stream/c1?from={begin - 2}", asked)
        assert (await call.end()).body == EVENTS[0][-2:] + b"".join(numbered[1:])
        call = get(client, "/v1/stream/c1", {"x-stream-event-ids": "0"})
        assert (await call.end()).body == b"".join(EVENTS)


async def test_a_lost_offset() -> None:
    async with serving() as client:
        stream = await kept(client)
        stream.forget_before(len(EVENTS[0]))
        for target in ("/v1/stream/c1", f"/v1/stream/c1?from={len(EVENTS[0]) - 1}"):
            call = await get(client, target).end()
            assert call.status == 400
            assert call.json()["error"]["message"] == "Stream offset lost, please restart"
        assert (await get(client, f"/v1/stream/c1?from={len(EVENTS[0])}").end()).status == 200
        assert client.state.metrics()["session_gaps"] == 2


async def test_an_overtaken_reader_is_told_what_is_lost() -> None:
    async with serving() as client:
        call, stream = await started(client)
        call.leave()
        await call.end()
        reader = get(client)
        stream.append(EVENTS[0])
        await reader.until(lambda c: c.body == EVENTS[0])
        reader.blocked = asyncio.Event()
        stream.append(EVENTS[1])  # held up on its way
        await asyncio.sleep(0)
        stream.append(EVENTS[2])
        stream.append(EVENTS[3])
        stream.forget_before(len(b"".join(EVENTS[:3])))
        await asyncio.sleep(0)
        reader.blocked.set()
        await reader.end()
        rest = reader.body.removeprefix(b"".join(EVENTS[:2])).removeprefix(b"data: ")
        lost = json.loads(rest)["error"]
        assert lost["type"] == "stream_gap_error"
        assert lost["first_kept"] == len(b"".join(EVENTS[:3]))
        assert len(EVENTS[0]) <= lost["first_lost"] <= len(b"".join(EVENTS[:2]))
        assert not stream.cancelled.is_set()
        assert client.state.metrics()["session_gaps"] == 1
        assert await delete(client) == 204


async def test_head() -> None:
    async with serving() as client:
        await kept(client)
        call = client.call("HEAD", "/v1/stream/c1")
        call.give(b"")
        await call.end()
        assert (call.status, call.body) == (200, b"")
        assert client.state.metrics()["session_readers"] == 0
