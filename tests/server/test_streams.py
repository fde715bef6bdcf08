"""Streams that outlive their connection: how they live and end, through the whole application."""

from __future__ import annotations

import asyncio
import json

import pytest
from asgi import CHAT, serving
from stream_calls import EVENTS, accepted, delete, get, kept, key, lookup, post, started

from pyllama.errors import EngineBusyError, EngineError

pytestmark = pytest.mark.anyio


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
