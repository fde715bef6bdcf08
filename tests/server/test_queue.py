"""What the HTTP layer makes of the queue: priorities by key, positions, and when to come back."""

from __future__ import annotations

import pytest
from asgi import serving

from pyllama.errors import EngineBusyError, InvalidRequestError
from pyllama.server import responses
from pyllama.server.auth import ApiKeys, Priorities, read_priorities
from pyllama.server.settings import Settings

pytestmark = pytest.mark.anyio


def test_priorities_by_key() -> None:
    assert read_priorities("") == {}
    assert read_priorities("sk-a=10,sk=b=-10,*=3") == {"sk-a": 10, "sk=b": -10, "*": 3}
    owners = ApiKeys(["sk-a", "sk=b", "other"])
    priorities = Priorities(read_priorities("sk-a=10,sk=b=-10,*=3"))
    for key, priority in (("sk-a", 10), ("sk=b", -10), ("other", 3)):
        owner = owners.owner_of(key.encode())
        assert owner is not None
        assert priorities.of(owner) == priority
    assert priorities.of(b"") == 3
    assert Priorities({}).of(b"") == 0


@pytest.mark.parametrize(
    "text", ["sk-secret", "sk-secret=", "=1", "sk-secret=11", "sk-secret=-11", "sk-secret=1.5"]
)
def test_bad_priorities_are_refused_without_the_key(text: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        Settings.from_flags({"key_priority": text})
    assert raised.value.param == "--key-priority"
    assert "secret" not in str(raised.value)


async def test_a_request_gets_its_key_s_priority() -> None:
    keys = {"api_keys": ("one", "two"), "key_priorities": {"two": 7}}
    async with serving(**keys) as client:
        for key, conversation, priority in (("one", "", 0), ("two", "", 7), ("two", "c", 7)):
            headers = {"x-api-key": key, "x-conversation-id": conversation}
            call = client.chat(headers, stream=True)
            stream = (await client.streams(len(client.calls)))[-1]
            assert stream.priority == priority
            stream.start()
            stream.finish()
            await call.end()


async def test_a_full_queue_says_when_to_come_back() -> None:
    async with serving() as client:
        for known, shown in ((17, "17"), (None, "1")):
            client.engine.refuse = EngineBusyError("full", retry_after=known)
            call = await client.chat().end()
            assert call.status == 429
            assert call.headers["retry-after"] == shown


async def test_who_asks_is_told_its_place_in_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "_QUEUE_LOOK", 0.001)
    async with serving() as client:
        call = client.chat({"x-queue-position": "1"}, stream=True)
        stream = await client.stream_of(call)
        told = b""
        for position in (2, 1, 0):
            stream.queue_position = position
            told += b": queue-position %d\n\n" % position
            await call.until(lambda call, told=told: call.body == told)  # type: ignore[misc]
        assert call.headers["content-type"] == "text/event-stream"
        stream.queue_position = None
        stream.start()
        stream.append(b"data: 1\n\n")
        stream.finish()
        await call.end()
        assert call.body == told + b"data: 1\n\n"


async def test_who_does_not_ask_is_told_nothing() -> None:
    async with serving() as client:
        for headers, fields in (({}, {"stream": True}), ({"x-queue-position": "1"}, {})):
            call = client.chat(headers, **fields)
            stream = (await client.streams(len(client.calls)))[-1]
            stream.queue_position = 3
            stream.start()
            stream.append(b"{}")
            stream.finish()
            assert (await call.end()).body == b"{}"
