"""Chat completions over the fake core: every stage a request and its client can be in."""

from __future__ import annotations

import asyncio

import pytest
from asgi import CHAT, serving

from pyllama.errors import ContextLengthError, EngineBusyError, EngineError, EngineUnavailableError

pytestmark = pytest.mark.anyio


async def test_streams_what_is_new_in_one_send() -> None:
    async with serving() as client:
        call = client.chat(stream=True)
        stream = await client.stream_of(call)
        assert call.status == 0  # queued: no headers yet
        stream.start()
        await call.until(lambda call: call.status == 200)
        assert call.headers["content-type"] == "text/event-stream"
        assert call.headers["x-accel-buffering"] == "no"
        assert call.headers["cache-control"] == "no-cache"
        stream.append(b"data: 1\n\n")
        stream.append(b"data: 2\n\n")
        await call.until(lambda call: call.body == b"data: 1\n\ndata: 2\n\n")
        stream.append(b"data: [DONE]\n\n")
        stream.finish()
        await call.end()
        assert call.body == b"data: 1\n\ndata: 2\n\ndata: [DONE]\n\n"
        assert call.complete
        assert not stream.cancelled.is_set()


async def test_whole_body() -> None:
    async with serving() as client:
        call = client.chat()
        stream = await client.stream_of(call)
        stream.start()
        stream.append(b'{"object":')
        stream.append(b'"chat.completion"}')
        assert call.status == 0
        stream.finish()
        await call.end()
        assert call.status == 200
        assert call.json() == {"object": "chat.completion"}
        assert call.headers["content-type"] == "application/json; charset=utf-8"
        assert call.headers["content-length"] == str(len(call.body))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (EngineBusyError("the queue is full"), 429, "unavailable_error"),
        (EngineUnavailableError("shutting down"), 503, "unavailable_error"),
        (EngineError("decode failed"), 500, "server_error"),
        (ContextLengthError("too long", n_prompt_tokens=9, n_ctx=8), 400, "exceed_context_size_error"),
    ],
)
async def test_failure_before_the_start(stream: bool, error: Exception, status: int, kind: str) -> None:
    async with serving() as client:
        client.engine.refuse = error
        refused = await client.chat(stream=stream).end()
        client.engine.refuse = None
        call = client.chat(stream=stream)
        (await client.stream_of(call)).finish(error)
        await call.end()
        for answer in (refused, call):
            assert answer.status == status
            assert answer.json()["error"]["type"] == kind
            assert answer.json()["error"]["message"] == str(error)
            assert answer.headers.get("retry-after") == ("1" if status == 429 else None)


async def test_context_error_names_both_counts() -> None:
    async with serving() as client:
        client.engine.refuse = ContextLengthError("too long", n_prompt_tokens=9, n_ctx=8)
        call = await client.chat().end()
        assert call.json()["error"]["n_prompt_tokens"] == 9
        assert call.json()["error"]["n_ctx"] == 8


async def test_failure_after_the_start_is_an_event() -> None:
    async with serving() as client:
        call = client.chat(stream=True)
        stream = await client.stream_of(call)
        stream.start()
        stream.append(b"data: 1\n\n")
        await call.until(lambda call: call.body != b"")
        stream.append(b'data: {"error":{}}\n\n')
        stream.finish(EngineError("decode failed"))
        await call.end()
        assert call.status == 200
        assert call.body == b'data: 1\n\ndata: {"error":{}}\n\n'
        assert call.complete


async def test_whole_body_failing_after_the_start_is_a_plain_error() -> None:
    async with serving() as client:
        call = client.chat()
        stream = await client.stream_of(call)
        stream.start()
        stream.finish(EngineError("decode failed"))
        await call.end()
        assert (call.status, call.json()["error"]["message"]) == (500, "decode failed")


async def test_keep_alive_opens_the_response_and_failure_in_the_queue_becomes_an_event() -> None:
    async with serving(sse_ping_interval=0.01) as client:
        call = client.chat(stream=True)
        stream = await client.stream_of(call)
        await call.until(lambda call: call.body.count(b":\n\n") >= 2)
        assert call.status == 200
        stream.finish(EngineUnavailableError("shutting down"))
        await call.end()
        assert call.body.lstrip(b":\n").startswith(b'data: {"error":{"code":503')
        assert call.complete


async def test_no_keep_alive_when_disabled_or_not_streaming() -> None:
    async with serving(sse_ping_interval=-1) as client, serving(sse_ping_interval=0.01) as pinging:
        silent = client.chat(stream=True)
        whole = pinging.chat(stream=False)
        pinged = pinging.chat(stream=True)
        await pinged.until(lambda call: call.body.count(b":\n\n") >= 3)
        assert silent.status == 0
        assert whole.status == 0
        for stream in [*client.engine.streams, *pinging.engine.streams]:
            stream.finish()


async def test_a_request_chooses_its_own_keep_alive() -> None:
    async with serving(sse_ping_interval=30) as client:
        call = client.chat(stream=True, sse_ping_interval=0.01)
        stream = await client.stream_of(call)
        await call.until(lambda call: call.body.count(b":\n\n") >= 2)
        stream.finish()


async def test_disconnect_while_the_body_is_awaited() -> None:
    async with serving() as client:
        call = client.call("POST", CHAT, {"content-length": "100"})
        call.give(b'{"mess', more=True)
        call.leave()
        await call.end()
        assert call.status == 0
        assert client.engine.streams == []


async def test_disconnect_while_preparing() -> None:
    async with serving() as client:
        client.engine.may_prepare.clear()
        call = client.chat(stream=True)
        await asyncio.to_thread(client.engine.preparing.wait)
        call.leave()
        client.engine.may_prepare.set()
        await call.end()
        assert client.engine.streams == []


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("stage", ["queued", "started", "generating"])
async def test_disconnect_cancels(streaming: bool, stage: str) -> None:
    async with serving() as client:
        call = client.chat(stream=streaming)
        stream = await client.stream_of(call)
        if stage != "queued":
            stream.start()
        if stage == "generating":
            stream.append(b"data: 1\n\n")
            if streaming:
                await call.until(lambda call: call.body != b"")
        call.leave()
        await call.end()
        assert stream.cancelled.is_set()


async def test_client_that_takes_nothing_is_dropped() -> None:
    async with serving(write_timeout=0.05) as client:
        call = client.chat(stream=True)
        stream = await client.stream_of(call)
        stream.start()
        stream.append(b"data: 1\n\n")
        await call.until(lambda call: call.body != b"")
        call.blocked = asyncio.Event()
        stream.append(b"data: 2\n\n")
        await call.end()
        assert stream.cancelled.is_set()
        assert not call.complete


async def test_reader_overtaken_by_the_ring() -> None:
    async with serving() as client:
        call = client.chat(stream=True)
        stream = await client.stream_of(call)
        stream.start()
        await call.until(lambda call: call.status == 200)
        stream._data = b"x" * 100
        stream.forget_before(60)
        stream.append(b"")
        await call.end()
        assert b"0 to 60" in call.body
        assert call.body.startswith(b'data: {"error":{')
        assert stream.cancelled.is_set()


@pytest.mark.parametrize("announced", [True, False])
async def test_body_over_the_limit(announced: bool) -> None:
    async with serving(max_body_bytes=1000) as client:
        headers = {"content-length": "50000000"} if announced else {"transfer-encoding": "chunked"}
        call = client.call("POST", CHAT, headers)
        call.give(b"x" * 600, more=True)
        call.give(b"x" * 600, more=True)
        await call.until(lambda call: call.body != b"")
        assert call.status == 413
        assert call.json()["error"]["type"] == "invalid_request_error"
        assert "1000 bytes" in call.json()["error"]["message"]
        call.leave()
        await call.end()


@pytest.mark.parametrize(("size", "status"), [(1000, 400), (1001, 413)])
async def test_body_at_the_limit(size: int, status: int) -> None:
    async with serving(max_body_bytes=1000) as client:
        call = client.call("POST", CHAT, {"transfer-encoding": "chunked"})
        call.give(b"x" * size)
        await call.end()
        assert call.status == status


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"17"])
async def test_bad_bodies(body: bytes) -> None:
    async with serving() as client:
        call = client.call("POST", CHAT, {"content-length": str(len(body))})
        call.give(body)
        await call.end()
        assert call.status == 400
        assert call.json()["error"]["type"] == "invalid_request_error"


async def test_form_content_type_is_read_as_json() -> None:
    async with serving() as client:
        call = client.chat({"content-type": "application/x-www-form-urlencoded"}, stream=True)
        stream = await client.stream_of(call)
        stream.start()
        stream.finish()
        await call.end()
        assert call.status == 200


async def test_draining_refuses_new_requests_and_lets_running_ones_end() -> None:
    async with serving() as client:
        call = client.chat(stream=True)
        stream = await client.stream_of(call)
        client.state.drain()
        late = await client.chat(stream=True).end()
        assert late.status == 503
        stream.start()
        stream.append(b"data: 1\n\n")
        stream.finish()
        await call.end()
        assert call.body == b"data: 1\n\n"
