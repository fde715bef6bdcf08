"""The store of sessions and their readers, on streams that the test drives."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fake_core import Prepared, Stream, Waker
from hypothesis import given, settings
from hypothesis import strategies as st

from pyllama.errors import EngineBusyError, InvalidRequestError, NotFoundError, StreamGapError
from pyllama.loop import LoopNotifier
from pyllama.server.session import Session, SessionReader
from pyllama.server.sessions import Sessions

pytestmark = pytest.mark.anyio


class Store(Sessions):
    """Sessions of streams that nobody generates."""

    def make(self, name: str = "c", owner: bytes = b"") -> tuple[Session, Any]:
        stream: Any = Stream(Prepared({"stream": True}, 0), None, 0)
        return self.open(owner, name, stream), stream


@asynccontextmanager
async def store(retention: float = 300, max_streams: int = 100) -> AsyncIterator[Store]:
    notifier = LoopNotifier(Waker())  # type: ignore[arg-type]
    sessions = Store(notifier, retention=retention, max_streams=max_streams)
    yield sessions
    sessions.close()
    assert sessions.counters.n_readers == 0
    notifier.close()


async def turns(n: int = 5) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def forgotten(sessions: Sessions) -> None:
    await turns()
    while sessions.n_kept:  # noqa: ASYNC110 - a timer of the store's is what is waited for
        await asyncio.sleep(0.001)


async def read_all(reader: SessionReader) -> bytes:
    parts = []
    while not reader.finished:
        parts.append(reader.read())
        if not reader.finished:
            await reader.wait()
    reader.close()
    return b"".join(parts)


async def test_readers_at_one_offset_share_one_bytes_object() -> None:
    async with store() as sessions:
        session, stream = sessions.make()
        readers = [session.attach() for _ in range(200)]
        stream.append(b"one")
        assert len({id(reader.read()) for reader in readers}) == 1
        stream.append(b"two")
        await turns()
        assert len({id(reader.read()) for reader in readers}) == 1
        stream.finish()
        await turns()
        for reader in readers:
            assert reader.read() == b""
            assert reader.finished
            reader.close()
            reader.close()


async def test_a_crowd_of_readers_misses_nothing() -> None:
    async with store() as sessions:
        session, stream = sessions.make()
        readers = [asyncio.create_task(read_all(session.attach())) for _ in range(300)]
        written = b""
        for number in range(50):
            event = b"%d;" % number
            stream.append(event)
            written += event
            await turns(number % 3)
        stream.finish()
        assert set(await asyncio.gather(*readers)) == {written}
        assert session.n_readers == 0


async def test_a_crowd_is_woken_in_rounds() -> None:
    async with store() as sessions:
        session, stream = sessions.make()
        readers = [session.attach() for _ in range(300)]
        reads = 0
        read_events = stream.read_events

        def counted(*args: int) -> Any:
            nonlocal reads
            reads += 1
            return read_events(*args)

        stream.read_events = counted
        tasks = [asyncio.create_task(read_all(reader)) for reader in readers]
        await turns()
        reads = 0
        for number in range(100):
            stream.append(b"%d;" % number)
            await turns(3)
        n_meanwhile = reads
        stream.finish()
        await asyncio.gather(*tasks)
        assert n_meanwhile < 100  # with one of them per event and reader it would be 30,000


async def test_who_comes_late_needs_no_further_change() -> None:
    async with store() as sessions:
        session, stream = sessions.make()
        stream.append(b"one")
        readers = [session.attach()]
        for text in (b"two", b"three"):
            stream.append(text)
            await turns()
            readers.append(session.attach())
        for reader in readers:
            got = reader.read()
            while len(got) < len(b"onetwothree"):
                await asyncio.wait_for(reader.wait(), 20)
                got += reader.read()
            reader.close()


async def test_a_backlog_comes_in_pieces_and_asks_for_no_wake() -> None:
    async with store() as sessions:
        session, stream = sessions.make()
        event = b"x" * 1000
        for _ in range(1000):
            stream.append(event)
        reader = session.attach(500)
        pieces = [reader.read()]
        while reader.offset < 1_000_000:
            await reader.wait()
            pieces.append(reader.read())
        assert b"".join(pieces) == event * 999 + event[500:]
        assert max(len(piece) for piece in pieces) <= 256 * 1024
        other = session.attach(0)
        while other.offset < 512_000:
            other.read()
        reader.close()
        other.close()
        assert not session._chunks


async def test_events_with_their_ids() -> None:
    async with store() as sessions:
        session, stream = sessions.make()
        for event in (b"aa", b"bb", b"cc"):
            stream.append(event)
        reader = session.attach(1)
        assert reader.read_events() == [(None, b"a"), (1, b"bb"), (2, b"cc")]
        assert reader.read_events() == []
        stream.append(b"dd")
        assert reader.read_events() == [(3, b"dd")]
        reader.close()
        reader = session.attach(after=1)
        assert reader.read_events() == [(2, b"cc"), (3, b"dd")]
        reader.close()


@pytest.mark.parametrize("position", [{"offset": -1}, {"offset": 1 << 64}, {"after": -1}, {"after": 0}])
async def test_positions_that_are_none(position: dict[str, int]) -> None:
    async with store() as sessions:
        session, _ = sessions.make()
        with pytest.raises(InvalidRequestError):
            session.attach(**position)  # type: ignore[arg-type]


async def test_a_gap_ends_a_reader_and_is_counted() -> None:
    async with store() as sessions:
        session, stream = sessions.make()
        stream.append(b"aaaa")
        reader = session.attach()
        stream.append(b"bbbb")
        stream.forget_before(8)
        session._chunks.clear()
        with pytest.raises(StreamGapError) as caught:
            reader.read()
        assert (caught.value.first_lost, caught.value.first_kept) == (0, 8)
        assert reader.finished
        reader.close()
        with pytest.raises(StreamGapError):
            session.attach(7)
        assert sessions.counters.n_gaps == 2
        session.attach(8).close()


async def test_an_ended_session_holds_nothing_of_the_loop() -> None:
    async with store() as sessions:
        for number in range(50):
            _, stream = sessions.make(str(number))
            stream.append(b"a")
            stream.finish()
        await turns()
        assert sessions.n_kept == 50
        assert not sessions._notifier._watches
        assert sessions._timer is not None


async def test_a_deleted_session_frees_its_stream_at_once() -> None:
    gc.collect()
    gc.disable()
    try:
        async with store() as sessions:
            for ends in (True, False):
                session, stream = sessions.make()
                reader = session.attach()
                reader.read()
                reader.close()
                if ends:
                    stream.finish()
                    await turns()
                freed = weakref.ref(stream)
                del session, stream, reader
                sessions.delete(b"", "c")
                await turns()
                assert freed() is None
    finally:
        gc.enable()


async def test_they_expire_in_order_on_one_timer() -> None:
    async with store(retention=0) as sessions:
        for number in range(5):
            _, stream = sessions.make(str(number))
            stream.finish()
        live, _ = sessions.make("live")
        await asyncio.wait_for(forgotten(sessions), 20)
        assert sessions.n_live == 1
        assert sessions.get(b"", "live") is live
        assert sessions._timer is None


async def test_too_many() -> None:
    async with store(max_streams=2) as sessions:
        _, stream = sessions.make("1")
        sessions.make("2")
        sessions.check_room(b"", "1")
        with pytest.raises(EngineBusyError):
            sessions.check_room(b"", "3")
        stream.finish()
        await turns()
        sessions.check_room(b"", "3")
        third, _ = sessions.make("3")
        assert sessions.get(b"", "1") is None
        assert sessions.get(b"", "3") is third
        assert sessions.metrics()["session_evictions"] == 1


async def test_what_the_core_evicted_is_gone() -> None:
    async with store() as sessions:
        streams = []
        for number in range(4):
            _, stream = sessions.make(str(number))
            stream.finish()
            streams.append(stream)
            await turns()
        streams[0].evicted = streams[2].evicted = True
        assert sessions.get(b"", "2") is None
        assert [each["conversation_id"] for each in sessions.lookup(b"", ["0", "1", "2"])] == ["1"]
        assert sessions.n_kept == 2


async def test_a_replaced_session_ends_for_its_readers_and_not_for_the_next() -> None:
    async with store() as sessions:
        first, old = sessions.make()
        reader = first.attach()
        second, new = sessions.make()
        assert old.cancelled.is_set()
        with pytest.raises(NotFoundError):
            reader.read()
        reader.close()
        old.finish()
        new.finish()
        await turns()
        assert sessions.get(b"", "c") is second
        assert sessions.n_kept == 1


@settings(max_examples=60, deadline=None)
@given(
    ids=st.lists(st.text("ab:", min_size=1, max_size=6), max_size=12),
    wanted=st.lists(st.text("ab:", min_size=1, max_size=4), max_size=6),
)
async def test_lookup_equals_its_definition(ids: list[str], wanted: list[str]) -> None:
    async with store() as sessions:
        for name in ids:
            sessions.make(name)
            sessions.make(name, b"other")
        sessions.delete(b"", ids[0]) if ids else None
        there = set(ids[1:]) - set(ids[:1])
        found = [each["conversation_id"] for each in sessions.lookup(b"", wanted)]
        assert len(found) == len(set(found))
        assert set(found) == {
            name for name in there for each in wanted if name == each or name.startswith(each + "::")
        }
