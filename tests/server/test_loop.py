"""The bridge from the core's wakers to an event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fake_core import Engine, Stream, Waker

from pyllama.errors import ClosedError, EngineError
from pyllama.loop import LoopNotifier, StreamReader

pytestmark = pytest.mark.anyio


def make_stream(notifier: LoopNotifier) -> tuple[Stream, StreamReader]:
    watch = notifier.watch()
    engine = Engine()
    stream = engine.submit(engine.prepare_chat(b'{"stream":true}', "openai"), notifier.waker, watch.key)  # type: ignore[arg-type]
    return stream, StreamReader(stream, notifier, watch)  # type: ignore[arg-type]


@pytest.fixture(params=["descriptor", "thread"])
def notifier_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "thread":

        def refuse(*_: Any) -> None:
            raise NotImplementedError

        monkeypatch.setattr(asyncio.SelectorEventLoop, "add_reader", refuse)
    return str(request.param)


async def test_reader_gives_every_byte_once(notifier_kind: str) -> None:
    notifier = LoopNotifier(Waker())  # type: ignore[arg-type]
    assert (notifier._thread is not None) == (notifier_kind == "thread")
    pairs = [make_stream(notifier) for _ in range(5)]

    async def read(reader: StreamReader) -> bytes:
        async with reader:
            return b"".join([chunk async for chunk in reader])

    readers = [asyncio.create_task(read(reader)) for _, reader in pairs]

    def produce() -> None:
        for number in range(200):
            for stream, _ in pairs:
                stream.append(b"%d," % number)
        for stream, _ in pairs:
            stream.finish()

    await asyncio.to_thread(produce)
    expected = b"".join(b"%d," % number for number in range(200))
    assert await asyncio.gather(*readers) == [expected] * 5
    assert all(stream.n_subscribers == 0 for stream, _ in pairs)
    notifier.close()
    notifier.close()


async def test_a_wake_before_the_wait_is_kept() -> None:
    notifier = LoopNotifier(Waker())  # type: ignore[arg-type]
    watch = notifier.watch()
    watch.wake()
    await watch.wait()
    waiting = asyncio.create_task(watch.wait())
    await asyncio.sleep(0)
    watch.wake()
    watch.wake()
    await waiting
    assert not watch._woken
    notifier.close()


async def test_keys_are_never_used_twice() -> None:
    notifier = LoopNotifier(Waker())  # type: ignore[arg-type]
    first = notifier.watch()
    notifier.forget(first)
    notifier.forget(first)
    assert notifier.watch().key != first.key
    notifier.close()


async def test_closing_wakes_those_who_wait() -> None:
    notifier = LoopNotifier(Waker())  # type: ignore[arg-type]
    waiting = asyncio.create_task(notifier.watch().wait())
    await asyncio.sleep(0)
    notifier.close()
    await waiting
    with pytest.raises(ClosedError):
        notifier.watch()


async def test_an_overtaken_reader_learns_what_it_lost() -> None:
    notifier = LoopNotifier(Waker())  # type: ignore[arg-type]
    stream, reader = make_stream(notifier)
    stream.append(b"x" * 10)
    stream.forget_before(4)
    with pytest.raises(EngineError, match="bytes 0 to 4"):
        reader.read()
    reader.close()
    notifier.close()


async def test_a_waiter_need_not_be_resumed() -> None:
    notifier = LoopNotifier(Waker())  # type: ignore[arg-type]
    watch = notifier.watch()
    asked: list[int] = []

    def dealt_with() -> bool:
        asked.append(len(asked))
        return len(asked) < 3

    watch.wake()
    await watch.wait(dealt_with)  # it was woken before: nobody is asked
    waiting = asyncio.create_task(watch.wait(dealt_with))
    for n in range(1, 5):
        await asyncio.sleep(0)
        watch.wake()
        assert len(asked) == min(n, 3)
    await waiting
    watch.wake()
    assert len(asked) == 3
    await watch.wait()
    notifier.close()
