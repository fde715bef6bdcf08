"""What the tests of streams that outlive their connection call, on the fake core."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from asgi import Call, Client
from fake_core import Stream

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
