"""Streams that outlive their connection, through the whole application, on the fake core."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest
from asgi import CHAT, Call, Client, serving
from fake_core import Stream

from pyllama.errors import EngineBusyError, EngineError
from pyllama.server.conversation import conversation_of_request

pytestmark = pytest.mark.anyio

EVENTS = [b"data: %d\n\n" % number for number in range(5)]


def post(client: Client, name: str = "c1", headers: dict[str, str] | None = None, **fields: Any) -> Call:
    return client.chat({"x-conversation-id": name, **(headers or {})}, stream=True, **fields)


async def accepted(client: Client, call: Call, n_before: int) -> Stream:
    """Wait until the engine has one stream more than it had."""
    while len(client.engine.streams) == n_before:
        assert not call.task.done(), call.body
        await asyncio.sleep(0)
    return client.engine.streams[-1]


async def started(
    client: Client, name: str = "c1", headers: dict[str, str] | None = None
) -> tuple[Call, Stream]:
    n_before = len(client.engine.streams)
    call = post(client, name, headers)
    stream = await accepted(client, call, n_before)
    stream.start()
    return call, stream


def get(client: Client, target: str = "/v1/stream/c1", headers: dict[str, str] | None = None) -> Call:
    call = client.call("GET", target, headers)
    call.give(b"")
    return call


async def delete(client: Client, target: str = "/v1/stream/c1", headers: dict[str, str] | None = None) -> int:
    call = client.call("DELETE", target, headers)
    call.give(b"")
    return (await call.end()).status


async def lookup(client: Client, ids: Any, headers: dict[str, str] | None = None) -> Any:
    call = client.call("POST", "/v1/streams/lookup", {"content-length": "1", **(headers or {})})
    call.give(json.dumps({"conversation_ids": ids}).encode())
    return (await call.end()).json()


async def kept(client: Client, name: str = "c1", headers: dict[str, str] | None = None) -> Stream:
    """A stream that has ended, with all of EVENTS."""
    call, stream = await started(client, name, headers)
    for event in EVENTS:
        stream.append(event)
    stream.finish()
    assert (await call.end()).body == b"".join(EVENTS)
    return stream


def key(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {name}"}


async def test_a_dropped_client_reads_on_from_any_byte() -> None:
    async with serving() as client:
        call, stream = await started(client)
        stream.append(EVENTS[0])
        await call.until(lambda c: c.body == EVENTS[0])
        call.leave()
        await call.end()
        assert not stream.cancelled.is_set()
        stream.append(EVENTS[1])
        readers = [get(client, f"/v1/stream/c1?from={offset}") for offset in range(len(EVENTS[0]) + 1)]
        stream.append(EVENTS[2])
        stream.finish()
        for offset, reader in enumerate(readers):
            assert (await reader.end()).status == 200
            assert reader.headers["content-type"] == "text/event-stream"
            assert reader.headers["cache-control"] == "no-cache"
            assert reader.body == b"".join(EVENTS[:3])[offset:]


async def test_it_lives_from_acceptance() -> None:
    async with serving() as client:
        call = post(client)
        stream = await client.stream_of(call)
        assert stream.kept
        reader = get(client)
        await reader.until(lambda c: c.status == 200)
        assert call.status == 0
        call.leave()
        await call.end()
        assert not stream.cancelled.is_set()
        stream.start()
        stream.append(EVENTS[0])
        stream.finish()
        assert (await reader.end()).body == EVENTS[0]


async def test_a_client_that_leaves_while_its_prompt_is_prepared_may_come_back() -> None:
    async with serving() as client:
        client.engine.may_prepare.clear()
        call = post(client)
        await asyncio.to_thread(client.engine.preparing.wait)
        call.leave()
        client.engine.may_prepare.set()
        await call.end()
        stream = client.engine.streams[-1]
        assert not stream.cancelled.is_set()
        stream.start()
        stream.finish()
        assert (await get(client).end()).status == 200


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


async def test_a_post_replaces_the_live_stream_of_its_conversation() -> None:
    async with serving() as client:
        first, old = await started(client)
        old.append(EVENTS[0])
        await first.until(lambda c: c.body == EVENTS[0])
        second, new = await started(client)
        assert old.cancelled.is_set()
        await first.end()
        assert json.loads(first.body.removeprefix(EVENTS[0] + b"data: "))["error"]["code"] == 404
        new.append(EVENTS[1])
        new.finish()
        assert (await second.end()).body == EVENTS[1]
        assert (await get(client).end()).body == EVENTS[1]


async def test_what_is_refused_or_not_streamed_leaves_a_live_stream_alone() -> None:
    async with serving() as client:
        call, stream = await started(client)
        bad = client.call("POST", CHAT, {"x-conversation-id": "c1", "content-length": "1"})
        bad.give(b"{")
        assert (await bad.end()).status == 400
        client.engine.refuse = EngineBusyError("full")
        assert (await post(client).end()).status == 429
        client.engine.refuse = None
        whole = client.chat({"x-conversation-id": "c1"})
        other = await accepted(client, whole, 1)
        other.append(b"{}")
        other.finish()
        assert (await whole.end()).body == b"{}"
        stream.append(EVENTS[0])
        stream.finish()
        assert (await call.end()).body == EVENTS[0]
        assert (await get(client).end()).body == EVENTS[0]
        assert await lookup(client, ["c2"]) == []


async def test_delete_cancels_and_tells_the_readers() -> None:
    async with serving() as client:
        call, stream = await started(client)
        stream.append(EVENTS[0])
        reader = get(client)
        await reader.until(lambda c: c.body == EVENTS[0])
        await call.until(lambda c: c.body == EVENTS[0])
        assert await delete(client) == 204
        assert stream.cancelled.is_set()
        for each in (call, reader):
            await each.end()
            assert b'"type":"not_found_error"' in each.body.removeprefix(EVENTS[0])
        assert (await get(client).end()).status == 404
        assert await delete(client) == 204


async def test_delete_while_queued() -> None:
    async with serving() as client:
        call = post(client)
        stream = await client.stream_of(call)
        assert await delete(client) == 204
        assert stream.cancelled.is_set()
        assert (await call.end()).status == 404


async def test_a_reader_of_an_ended_stream_survives_its_deletion() -> None:
    async with serving() as client:
        stream = await kept(client)
        assert stream.detached
        reader = client.call("GET", "/v1/stream/c1")
        reader.blocked = asyncio.Event()
        reader.give(b"")
        await asyncio.sleep(0)
        assert await delete(client) == 204
        reader.blocked.set()
        assert (await reader.end()).body == b"".join(EVENTS)


async def test_lookup() -> None:
    async with serving() as client:
        await kept(client, "a")
        await kept(client, "a::m/x")
        await kept(client, "a:b")
        call, stream = await started(client, "live")
        found = await lookup(client, ["a", "a::m/x", "live", "a", "none", "", 7, None])
        assert [each["conversation_id"] for each in found] == ["a", "a::m/x", "live"]
        assert [each["is_done"] for each in found] == [True, True, False]
        assert found[0]["total_bytes"] == len(b"".join(EVENTS))
        assert found[0]["completed_at"] >= found[0]["started_at"] > 1_700_000_000
        assert found[2]["completed_at"] == 0
        for nothing in ("a", None, {}, 3):
            assert await lookup(client, nothing) == []
        stream.finish()
        await call.end()


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff"])
async def test_lookups_that_are_no_json(body: bytes) -> None:
    async with serving() as client:
        call = client.call("POST", "/v1/streams/lookup", {"content-length": "1"})
        call.give(body)
        assert (await call.end()).status == 400


async def test_sessions_belong_to_their_key() -> None:
    async with serving(api_keys=("one", "two")) as client:
        call, stream = await started(client, headers=key("one"))
        assert (await get(client, headers=key("two")).end()).status == 404
        assert await lookup(client, ["c1"], key("two")) == []
        assert await delete(client, headers=key("two")) == 204
        assert not stream.cancelled.is_set()
        other, second = await started(client, headers=key("two"))
        assert not stream.cancelled.is_set()
        for each, body in ((stream, b"one"), (second, b"two")):
            each.append(body)
            each.finish()
        assert (await call.end()).body == b"one"
        assert (await other.end()).body == b"two"
        assert (await get(client, headers=key("two")).end()).body == b"two"
        assert (await get(client).end()).status == 401


async def test_a_stream_that_failed_in_the_queue_says_so_to_those_who_come_back() -> None:
    async with serving() as client:
        call = post(client)
        stream = await client.stream_of(call)
        reader = get(client)
        await reader.until(lambda c: c.status == 200)
        stream.finish(EngineError("broken"))
        assert (await call.end()).status == 500
        assert b"broken" in (await reader.end()).body
        assert b"broken" in (await get(client).end()).body


async def test_shutdown_tells_the_readers() -> None:
    async with serving() as client:
        call, stream = await started(client)
        call.leave()
        await call.end()
        reader = get(client)
        await reader.until(lambda c: c.status == 200)
        client.engine.shutdown("the server is shutting down")
        assert b"shutting down" in (await reader.end()).body
        assert stream.detached


async def test_replays_are_kept_alive() -> None:
    async with serving(sse_ping_interval=0.01) as client:
        _, stream = await started(client)
        reader = get(client)
        await reader.until(lambda c: b":\n\n" in c.body)
        stream.finish()
        await reader.end()


async def test_head() -> None:
    async with serving() as client:
        await kept(client)
        call = client.call("HEAD", "/v1/stream/c1")
        call.give(b"")
        await call.end()
        assert (call.status, call.body) == (200, b"")
        assert client.state.metrics()["session_readers"] == 0


async def test_a_stalled_reader_is_dropped_and_its_stream_goes_on() -> None:
    async with serving(write_timeout=0.01) as client:
        call, stream = await started(client)
        call.leave()
        await call.end()
        reader = get(client)
        await reader.until(lambda c: c.status == 200)
        reader.blocked = asyncio.Event()
        stream.append(EVENTS[0])
        await reader.end()
        assert not stream.cancelled.is_set()
        stream.finish()
        assert (await get(client).end()).status == 200


async def test_metrics() -> None:
    async with serving(endpoint_metrics=True) as client:
        await kept(client, "done")
        call, stream = await started(client, "live")
        reader = get(client, "/v1/stream/live")
        await reader.until(lambda c: c.status == 200)
        page = (await client.get("/metrics")).body.decode()
        for line in ("sessions_live 1", "sessions_kept 1", "session_readers 2", "session_replays_total 1"):
            assert f"\npyllama:{line}\n" in page
        stream.finish()
        await call.end()
        await reader.end()
        assert client.state.metrics()["session_readers"] == 0


async def test_without_the_header_nothing_is_kept() -> None:
    async with serving() as client:
        call = client.chat(stream=True)
        stream = await client.stream_of(call)
        stream.start()
        stream.append(EVENTS[0])
        await call.until(lambda c: c.body == EVENTS[0])
        call.leave()
        await call.end()
        assert stream.cancelled.is_set()
        assert not stream.kept
        assert client.state.metrics()["sessions_live"] == 0
