"""Streams of a real server through a proxy that cuts their connections at every place."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import httpx
import pytest
from cutting_proxy import CuttingProxy
from live_server import CHAT, ENDLESS, QUESTION, LiveServer, wait_until

from pyllama.client import (
    AuthenticationError,
    RequestRefusedError,
    ResumingStream,
    RetriesExhaustedError,
    RetryPolicy,
    StreamGoneError,
    SyncResumingStream,
)

pytestmark = pytest.mark.anyio

Over = Literal["sse", "socket"]
REQUEST = {"messages": QUESTION, "temperature": 0, "max_tokens": 12}
AT_ONCE = RetryPolicy(max_retries=5, first_delay=0)
KEY = "right"


def text_of(chunks: list[Any]) -> str:
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    return "".join((delta.get("reasoning_content") or "") + (delta.get("content") or "") for delta in deltas)


@pytest.fixture(scope="module")
def expected(server: LiveServer) -> str:
    status, answer = server.post(json.dumps(REQUEST).encode(), CHAT)
    assert status == 200
    message = answer["choices"][0]["message"]
    return str((message.get("reasoning_content") or "") + (message.get("content") or ""))


def url_of(server: LiveServer) -> str:
    return f"http://127.0.0.1:{server.port}"


async def read(url: str, over: Over, **more: Any) -> list[Any]:
    options: dict[str, Any] = {"over": over, "api_key": KEY, "retry": AT_ONCE, **more}
    async with ResumingStream(url, REQUEST, **options) as stream:
        return [chunk async for chunk in stream]


def check_whole(chunks: list[Any], expected: str) -> None:
    """Check that nothing is missing and nothing came twice."""
    assert text_of(chunks) == expected
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks].count("length") == 1
    assert sum(chunk["choices"][0]["delta"].get("role") == "assistant" for chunk in chunks) == 1
    assert len({chunk["id"] for chunk in chunks}) == 1


@pytest.mark.parametrize("over", ["sse", "socket"])
async def test_uncut(server: LiveServer, over: Over, expected: str) -> None:
    check_whole(await read(url_of(server), over), expected)


@pytest.mark.parametrize("over", ["sse", "socket"])
async def test_cut_at_every_byte(server: LiveServer, over: Over) -> None:
    """The first connection ends behind n bytes, for every n up to its whole length."""
    request = {**REQUEST, "max_tokens": 3}
    options: dict[str, Any] = {"over": over, "api_key": KEY, "retry": AT_ONCE}
    limit = 0
    expected = ""
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=limits) as client:
        with CuttingProxy(server.port, lambda number: None) as proxy:
            while True:
                async with ResumingStream(proxy.url, request, client=client, **options) as stream:
                    chunks = [chunk async for chunk in stream]
                expected = expected or text_of(chunks)
                check_whole(chunks, expected)
                if limit > 0 and proxy.n_connections == 1:
                    break  # the whole stream came through
                cut = limit
                proxy.cut(lambda number, cut=cut: cut if number == 0 else None)
                limit += 1
    assert expected
    assert limit > 800


@pytest.mark.parametrize("over", ["sse", "socket"])
async def test_cut_again_and_again(server: LiveServer, over: Over, expected: str) -> None:
    """Each connection gets a chunk or two further."""
    with CuttingProxy(server.port, lambda number: 900) as proxy:
        check_whole(await read(proxy.url, over), expected)
        assert proxy.n_connections >= 2


@pytest.mark.parametrize("over", ["sse", "socket"])
def test_without_a_loop(server: LiveServer, over: Over, expected: str) -> None:
    with CuttingProxy(server.port, lambda number: 900 + 100 * number) as proxy:
        with SyncResumingStream(proxy.url, REQUEST, over=over, api_key=KEY, retry=AT_ONCE) as stream:
            check_whole(list(stream), expected)
        assert proxy.n_connections >= 2


@pytest.mark.parametrize("over", ["sse", "socket"])
async def test_another_process_goes_on(server: LiveServer, over: Over, expected: str) -> None:
    url = url_of(server)
    async with ResumingStream(url, REQUEST, over=over, api_key=KEY) as stream:
        seen = []
        async for chunk in stream:
            seen.append(chunk)
            if len(seen) == 3:
                break
    where = {"conversation_id": stream.conversation_id, "position": stream.position}
    async with ResumingStream(url, None, over=over, api_key=KEY, **where) as stream:  # type: ignore[arg-type]
        seen += [chunk async for chunk in stream]
    check_whole(seen, expected)
    # And once more, from behind the last chunk: there is nothing left, and that is no failure.
    where["position"] = stream.position
    async with ResumingStream(url, None, over=over, api_key=KEY, **where) as stream:  # type: ignore[arg-type]
        assert [chunk async for chunk in stream] == []
    assert stream.position == where["position"]


@pytest.mark.parametrize("over", ["sse", "socket"])
async def test_cancel(server: LiveServer, over: Over) -> None:
    url = url_of(server)
    cancelled = server.metric("pyllama:requests_cancelled_total")
    async with ResumingStream(url, ENDLESS, over=over, api_key=KEY) as stream:
        async for _ in stream:
            break
        await stream.cancel()
        await stream.cancel()
        wait_until("it has ended", lambda: server.metric("pyllama:requests_cancelled_total") == cancelled + 1)
    other = ResumingStream(url, None, over=over, api_key=KEY, conversation_id=stream.conversation_id)
    async with other:
        with pytest.raises(StreamGoneError):
            await anext(aiter(other))


@pytest.mark.parametrize("over", ["sse", "socket"])
async def test_cancel_from_another_task(server: LiveServer, over: Over) -> None:
    async with ResumingStream(url_of(server), ENDLESS, over=over, api_key=KEY) as stream:
        began = asyncio.Event()

        async def read_on() -> int:
            n = 0
            async for _ in stream:
                n += 1
                began.set()
            return n

        reading = asyncio.create_task(read_on())
        await began.wait()
        await stream.cancel()
        assert await reading > 0


def test_cancel_without_a_loop(server: LiveServer) -> None:
    cancelled = server.metric("pyllama:requests_cancelled_total")
    with SyncResumingStream(url_of(server), ENDLESS, api_key=KEY) as stream:
        next(iter(stream))
        stream.cancel()
    wait_until("it has ended", lambda: server.metric("pyllama:requests_cancelled_total") == cancelled + 1)


@pytest.mark.parametrize("over", ["sse", "socket"])
async def test_what_ends_a_stream(server: LiveServer, over: Over) -> None:
    url = url_of(server)
    for key in (None, "wrong"):
        with pytest.raises(AuthenticationError):
            await read(url, over, api_key=key)
    async with ResumingStream(url, {"messages": []}, over=over, api_key=KEY) as stream:
        with pytest.raises(RequestRefusedError) as refused:
            await anext(aiter(stream))
        assert (refused.value.status, refused.value.error["param"]) == (400, "messages")


@pytest.mark.parametrize("over", ["sse", "socket"])
async def test_a_server_that_is_not_there(server: LiveServer, over: Over) -> None:
    with CuttingProxy(server.port, lambda number: 0) as proxy:
        with pytest.raises(RetriesExhaustedError) as raised:
            await read(proxy.url, over)
        assert raised.value.__cause__ is not None
        assert proxy.n_connections == 6


async def test_a_client_of_ones_own(server: LiveServer, expected: str) -> None:
    async with httpx.AsyncClient() as client:
        check_whole(await read(url_of(server), "sse", client=client), expected)
        check_whole(await read(url_of(server), "sse", client=client), expected)
