"""Streams that are dropped, resumed, deleted and replaced at random, against a real server.

What must hold: every client that reads a stream to its end has seen a contiguous piece of it, the same bytes
as everybody else, and was told how it ended.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from live_server import LiveServer, check_error, wait_until
from stream_client import DONE, Reader, check_agreement, check_end, get_stream, post_stream

EXAMPLES = int(os.environ.get("PYLLAMA_CHAOS_EXAMPLES", "12"))
SEED = int(os.environ.get("PYLLAMA_CHAOS_SEED", "5"))
# The ring is shorter than a long answer, so that readers are overtaken.
FLAGS = ("--parallel", "2", "--ctx-size", "8192", "--stream-buffer", "16384", "--max-stream-bytes", "262144")
NAMES = ("plain", "with/slashes/", "with space", "grüße-对话", "a::b/c:Q8_0", "x" * 10_000)
BAD_OFFSETS = ("-1", "x", "1.5", "18446744073709551616", "%20", "0x1", "9" * 30)


@pytest.fixture(scope="module")
def running() -> Iterator[LiveServer]:
    with LiveServer(*FLAGS) as server:
        yield server


@pytest.fixture
def server(running: LiveServer) -> Iterator[LiveServer]:
    yield running
    for name in NAMES:
        delete(running, name)
    running.close_sockets()
    running.check_settled()


def delete(server: LiveServer, name: str) -> None:
    status, body = server.request("DELETE", f"/v1/stream/{quote(name, safe='')}")
    assert (status, body) == (204, b"")


def lookup(server: LiveServer, *names: str) -> dict[str, Any]:
    status, found = server.ask("/v1/streams/lookup", {"conversation_ids": names})
    assert status == 200
    return {each["conversation_id"]: each for each in found}


def target(name: str, query: str = "", *, in_path: bool = True) -> str:
    raw = quote(name, safe="")
    if in_path:
        return f"/v1/stream/{raw}" + (f"?{query}" if query else "")
    return f"/v1/stream?conv_id={raw}" + (f"&{query}" if query else "")


class Chaos:
    """Plays the steps that hypothesis draws, and checks at the end."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        self.readers: list[tuple[str, Reader]] = []

    def pick(self, number: int) -> tuple[str, Reader] | None:
        """Return one of the readers that are still there."""
        there = [each for each in self.readers if not each[1].dropped and not each[1].ended]
        return there[number % len(there)] if there else None

    def post(self, name: str, n_tokens: int) -> None:
        self.readers.append((name, post_stream(self.server, name.encode(), max_tokens=n_tokens)))

    def loud(self, name: str, n_tokens: int) -> None:
        """A stream of megabytes, which overtakes whoever does not read."""
        reader = post_stream(
            self.server, name.encode(), max_tokens=5 * n_tokens, logprobs=True, top_logprobs=20
        )
        self.readers.append((name, reader))

    def race(self, name: str, n_tokens: int) -> None:
        threads = [threading.Thread(target=self.post, args=(name, n_tokens)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def attach(self, name: str, offset: int, in_path: bool, slow: bool = False) -> None:
        where = target(name, f"from={offset}", in_path=in_path)
        reader = get_stream(self.server, where, offset, slow=slow).open()
        if reader.status == 200:
            self.readers.append((name, reader))
        else:
            reader.read_to_end()
            check_error(reader.status, json.loads(reader.data), code=reader.status)
            assert reader.status in (400, 404)

    def read(self, number: int, n_bytes: int) -> None:
        if (picked := self.pick(number)) is not None:
            picked[1].read(n_bytes)

    def drop(self, number: int, n_bytes: int, rudely: bool) -> None:
        if (picked := self.pick(number)) is not None:
            picked[1].read(n_bytes)
            picked[1].drop(rudely=rudely)

    def resume(self, number: int, in_path: bool) -> None:
        """What a client does that lost its connection: go on behind the last byte it has."""
        dropped = [each for each in self.readers if each[1].dropped and each[1].status == 200]
        if dropped:
            name, reader = dropped[number % len(dropped)]
            self.attach(name, reader.start + len(reader.bytes_of_stream), in_path)

    def delete(self, name: str) -> None:
        thread = threading.Thread(target=delete, args=(self.server, name))
        thread.start()
        lookup(self.server, name)
        thread.join()

    def bad(self, name: str, offset: str) -> None:
        status, body = self.server.request("GET", target(name, f"from={offset}"))
        message = json.loads(body)["error"]["message"]
        assert (status, message) in (
            (400, "Invalid 'from' offset"),
            (404, "Stream not found or expired"),
        )

    def finish(self) -> None:
        """Read everybody to the end, and every stream that is kept once more."""
        for _, reader in self.readers:
            if not reader.dropped:
                reader.read_to_end()
        for name in NAMES:
            wait_until(
                "it has ended",
                lambda name=name: lookup(self.server, name).get(name, {"is_done": True})["is_done"],
            )
            for offset in sorted({reader.start for own, reader in self.readers if own == name}):
                again = get_stream(self.server, target(name, f"from={offset}"), offset).read_to_end()
                self.readers.append((name, again))
        readers = [reader for _, reader in self.readers]
        check_agreement(readers)
        for reader in readers:
            check_end(reader)


_name = st.sampled_from(NAMES[:3])
_number = st.integers(0, 7)
_few_bytes = st.integers(0, 3000)
_offset = st.one_of(st.just(0), _few_bytes, st.just(2**64 - 1))
_POST = st.tuples(st.just("post"), st.sampled_from(NAMES), st.integers(1, 200))
_DROP = st.tuples(st.just("drop"), _number, _few_bytes, st.booleans())
_RESUME = st.tuples(st.just("resume"), _number, st.booleans())
_STEPS = st.one_of(
    _POST,
    _POST,
    st.tuples(st.just("loud"), _name, st.integers(1, 200)),
    st.tuples(st.just("race"), _name, st.integers(1, 60)),
    st.tuples(st.just("attach"), _name, _offset, st.booleans(), st.booleans()),
    st.tuples(st.just("attach"), _name, st.just(0), st.booleans(), st.booleans()),
    st.tuples(st.just("read"), _number, _few_bytes),
    _DROP,
    _DROP,
    _RESUME,
    _RESUME,
    _RESUME,
    st.tuples(st.just("delete"), _name),
    st.tuples(st.just("bad"), _name, st.sampled_from(BAD_OFFSETS)),
)


def test_whatever_clients_do_every_stream_is_contiguous(server: LiveServer) -> None:
    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(steps=st.lists(_STEPS, min_size=20, max_size=50))
    def holds(steps: list[tuple[Any, ...]]) -> None:
        chaos = Chaos(server)
        for step in steps:
            getattr(chaos, step[0])(*step[1:])
        chaos.finish()
        server.close_sockets()

    holds()


@pytest.mark.parametrize("name", NAMES)
def test_a_client_that_drops_at_every_event_has_the_whole_stream(server: LiveServer, name: str) -> None:
    reader = post_stream(server, name.encode(), max_tokens=40)
    reader.read(1)
    reader.drop(rudely=True)
    parts = [bytes(reader.data)]
    position = len(parts[0])
    for n_bytes in range(50, 3000, 137):
        reader = get_stream(server, target(name, f"from={position}", in_path=n_bytes % 2 == 0), position)
        reader.read(n_bytes)
        reader.drop(rudely=n_bytes % 3 == 0)
        parts.append(bytes(reader.data))
        position += len(reader.data)
    parts.append(bytes(get_stream(server, target(name, f"from={position}"), position).read_to_end().data))
    whole = get_stream(server, target(name)).read_to_end()
    assert b"".join(parts) == whole.data
    assert whole.data.endswith(DONE)
    assert whole.data.count(b'"finish_reason":"length"') == 1


def occupy(server: LiveServer) -> list[Reader]:
    """Take both slots, for two conversations."""
    busy = []
    for name in NAMES[:2]:
        busy.append(post_stream(server, name.encode(), max_tokens=1500))
        busy[-1].read(1)
    return busy


def test_dropped_while_it_waits_for_a_slot(server: LiveServer) -> None:
    busy = occupy(server)
    queued = post_stream(server, NAMES[2].encode(), max_tokens=4)
    wait_until("it is there", lambda: NAMES[2] in lookup(server, NAMES[2]))
    queued.drop(rudely=True)
    again = get_stream(server, target(NAMES[2]))
    for name in NAMES[:2]:
        delete(server, name)
    again.read_to_end()
    assert again.data.endswith(DONE)
    for reader in busy:
        check_end(reader.read_to_end())


def test_a_reader_that_is_overtaken_is_told(server: LiveServer) -> None:
    name = NAMES[0]
    # With probabilities, so that tokens that share an event take their bytes too.
    post_stream(server, name.encode(), max_tokens=300, logprobs=True, top_logprobs=5).read_to_end()
    assert lookup(server, name)[name]["total_bytes"] > 16384
    status, body = server.request("GET", target(name))
    assert check_error(status, json.loads(body)) == "Stream offset lost, please restart"
    assert server.metric("pyllama:session_gaps_total") >= 1


def test_a_reader_that_stops_reading_is_told_what_it_lost(server: LiveServer) -> None:
    busy = occupy(server)
    name = NAMES[2]
    # Ten megabytes: more than a kernel's send buffer takes for a reader that has stopped.
    writer = post_stream(server, name.encode(), max_tokens=4000, logprobs=True, top_logprobs=20)
    wait_until("it is there", lambda: name in lookup(server, name))
    slow = get_stream(server, target(name), slow=True).open()
    assert slow.status == 200
    for reader, taken in zip(busy, NAMES, strict=False):
        delete(server, taken)
        reader.read_to_end()
    writer.read_to_end()
    wait_until("it has ended", lambda: lookup(server, name)[name]["is_done"])
    slow.read_to_end()
    assert slow.error is not None
    assert slow.error["type"] == "stream_gap_error"
    for reader in (writer, slow):
        check_end(reader)
    check_agreement([writer, slow])


def test_control_finds_a_completion_whose_client_is_gone(server: LiveServer) -> None:
    name = NAMES[0]
    reader = post_stream(server, name.encode(), max_tokens=1500, reasoning_control=True)
    reader.read_events(3)
    completion = reader.completion
    reader.drop(rudely=False)
    status, answer = server.ask("/v1/chat/completions/control", {"id": completion, "action": "stop"})
    assert status == 200
    assert answer["success"] is True, answer
    again = get_stream(server, target(name, "after=2")).read_to_end()
    assert again.data.endswith(DONE)
    _, answer = server.ask("/v1/chat/completions/control", {"id": completion, "action": "stop"})
    assert answer == {"success": False, "message": "no active completion for this id"}


def test_an_empty_id_is_none(server: LiveServer) -> None:
    reader = post_stream(server, b"  ", max_tokens=4).read_to_end()
    assert reader.data.endswith(DONE)
    for path in ("/v1/stream/", "/v1/stream", "/v1/stream?conv_id="):
        status, body = server.request("GET", path)
        assert check_error(status, json.loads(body)) == "Missing conversation id in path"


def test_streams_share_their_memory(server: LiveServer) -> None:
    before = server.metric("pyllama:session_evictions_total")
    names = [f"kept-{number}" for number in range(40)]
    for name in names:
        post_stream(server, name.encode(), max_tokens=80).read_to_end()
    assert server.metric("pyllama:stream_bytes") <= 262144 + 2 * 65536
    assert server.metric("pyllama:session_evictions_total") > before
    there = lookup(server, *names)
    assert 0 < len(there) < len(names)
    assert sorted(there, key=names.index) == names[-len(there) :]  # the oldest went
    for name in names:
        delete(server, name)


def test_shutdown_ends_streams_with_an_error_that_every_reader_gets() -> None:
    with LiveServer("--parallel", "2", "--ctx-size", "8192", "--shutdown-timeout", "0.2") as server:
        first = post_stream(server, NAMES[0].encode(), max_tokens=-1)
        first.read(300)
        second = post_stream(server, NAMES[1].encode(), max_tokens=-1)
        second.read(1)
        second.drop(rudely=True)
        third = post_stream(server, NAMES[2].encode(), max_tokens=-1)
        wait_until("the third waits", lambda: NAMES[2] in lookup(server, NAMES[2]))
        readers = [get_stream(server, target(name)).open() for name in NAMES[:3]]
        server.process.send_signal(signal.SIGTERM)
        for reader in (first, *readers):
            error = reader.read_to_end().error
            assert error is not None, bytes(reader.data[-300:])
            assert error["type"] in {"unavailable_error", "stream_gap_error"}
        check_agreement([first, *readers])
        assert third.read_to_end().status == 503
        assert server.process.wait(30) == 0
