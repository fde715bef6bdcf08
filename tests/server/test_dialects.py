"""What the HTTP layer does for Anthropic's clients: named events, their envelope, and pings."""

from __future__ import annotations

import json

import pytest
from asgi import Call, Client, serving

from pyllama.errors import EngineBusyError, EngineError, UnsupportedError

pytestmark = pytest.mark.anyio

PATHS = ["/v1/messages", "/v1/responses", "/responses", "/v1/chat/completions"]


def post(client: Client, path: str, **fields: object) -> Call:
    body = json.dumps(fields).encode()
    call = client.call("POST", path, {"content-length": str(len(body))})
    call.give(body)
    return call


async def test_silence_is_a_ping() -> None:
    async with serving(sse_ping_interval=0.01) as client:
        call = post(client, "/v1/messages", stream=True)
        stream = await client.stream_of(call)
        await call.until(lambda call: call.body.count(b"event: ping\n") >= 2)
        assert set(call.body.split(b"\n\n")) == {b'event: ping\ndata: {"type":"ping"}', b""}
        stream.start()
        stream.finish()
        await call.end()


@pytest.mark.parametrize("path", PATHS)
async def test_failure_in_the_queue_after_a_ping(path: str) -> None:
    async with serving(sse_ping_interval=0.01) as client:
        call = post(client, path, stream=True)
        stream = await client.stream_of(call)
        await call.until(lambda call: call.status == 200)
        stream.finish(EngineError("broken"))
        await call.end()
        last = call.body.split(b"\n\n")[-2]
        name, _, data = last.rpartition(b"data: ")
        error = json.loads(data)
        assert error["error"]["message"] == "broken"
        if path == "/v1/messages":
            assert (name, error["type"]) == (b"event: error\n", "error")
        else:
            assert (name, list(error)) == (b"", ["error"])


@pytest.mark.parametrize("path", PATHS)
async def test_envelope_of_errors(path: str) -> None:
    async with serving(api_keys=("right",)) as client:
        refused = post(client, path)
        await refused.end()
        assert refused.status == 401
        client.engine.refuse = EngineBusyError("full")
        body = b"{}"
        busy = client.call("POST", path, {"content-length": "2", "x-api-key": "right"})
        busy.give(body)
        await busy.end()
        assert busy.status == 429
        assert busy.headers["retry-after"] == "1"
        for call in (refused, busy):
            marked = call.json().pop("type", None)
            assert marked == ("error" if path == "/v1/messages" else None)
            assert call.json()["error"]["code"] == call.status


async def test_what_the_model_cannot_do_is_a_500_for_anthropic_only() -> None:
    for path in PATHS:
        async with serving() as client:
            client.engine.refuse = UnsupportedError("image input is not supported by this model")
            call = await post(client, path).end()
            assert call.status == call.json()["error"]["code"] == (500 if path == "/v1/messages" else 501)
