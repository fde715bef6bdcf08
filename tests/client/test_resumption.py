"""What the client makes of a stream's bytes and messages, cut anywhere: without a network."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyllama.client import (
    AuthenticationError,
    RequestRefusedError,
    RetriesExhaustedError,
    RetryPolicy,
    StreamFailedError,
    StreamGapError,
    StreamGoneError,
)
from pyllama.client.errors import RetryableError
from pyllama.client.retry import Retries
from pyllama.client.socket import SocketResumption, socket_url
from pyllama.client.sse import SseResumption

CHUNKS = [{"choices": [text]} for text in ("a", "b\n", "\u00fc", ": x", "")]
EVENTS = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in CHUNKS] + [b"data: [DONE]\n\n"]
STREAM = b"".join(EVENTS)
GAP = {"code": 400, "type": "stream_gap_error", "message": "gone"}


def begun() -> SseResumption:
    where = SseResumption({"messages": []}, "c1")
    where.next_request()
    where.note_status(200, b"", {})
    return where


def test_first_a_post_then_gets() -> None:
    where = SseResumption({"messages": []}, "c1")
    post = where.next_request()
    assert (post.method, post.path) == ("POST", "/v1/chat/completions")
    assert post.headers == {"x-conversation-id": "c1"}
    assert post.json == {"messages": [], "stream": True}
    where.note_status(200, b"", {})
    assert list(where.feed(EVENTS[0] + EVENTS[1][:5])) == CHUNKS[:1]
    get = where.next_request()
    assert (get.method, get.path) == ("GET", "/v1/stream")
    assert get.params == {"conv_id": "c1", "from": str(len(EVENTS[0]))}


@given(st.lists(st.integers(0, len(STREAM))), st.lists(st.integers(0, len(EVENTS))))
def test_cut_anywhere_with_comments_between(cuts: list[int], comments: list[int]) -> None:
    where = begun()
    found: list[Any] = []
    for cut in [*sorted(cuts), len(STREAM)]:
        # A connection brings the bytes from the offset up to the cut, and comments, which do not count.
        body = STREAM[where.position : max(cut, where.position)]
        whole, _, rest = body.rpartition(b"\n\n")
        noise = b":\n\n" * comments.count(cut % (len(EVENTS) + 1))
        found += where.feed(noise + (whole + b"\n\n" if whole else b"") + noise + rest)
        if not where.finished:
            where.next_request()
    assert found == CHUNKS
    assert where.finished
    assert where.position == len(STREAM) - len(EVENTS[-1])


def test_every_byte_by_itself() -> None:
    where = begun()
    assert [chunk for n in range(len(STREAM)) for chunk in where.feed(STREAM[n : n + 1])] == CHUNKS


def test_the_position_is_behind_what_was_yielded() -> None:
    """Whoever leaves there, and comes back with it, misses nothing that arrived together with it."""
    where = begun()
    chunks = where.feed(STREAM)
    for n, event in enumerate(EVENTS[:-1]):
        before = sum(map(len, EVENTS[:n]))
        assert where.position == before
        assert next(chunks) == CHUNKS[n]
        assert where.position == before + len(event)
        assert not where.finished


def test_a_post_that_may_not_have_arrived() -> None:
    where = SseResumption({"messages": []}, "c1")
    assert where.next_request().method == "POST"
    assert where.next_request().method == "GET"  # the connection failed: it may be there
    with pytest.raises(RetryableError):
        where.note_status(404, b"", {})
    assert where.next_request().method == "POST"
    where.note_status(200, b"", {})
    assert where.next_request().method == "GET"
    with pytest.raises(StreamGoneError):
        where.note_status(404, b"", {})


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (401, {"message": "Invalid API Key"}, AuthenticationError),
        (403, {}, AuthenticationError),
        (400, {"message": "'messages' is required"}, RequestRefusedError),
        (413, {}, RequestRefusedError),
        (500, {}, RequestRefusedError),
        (400, {"message": "Stream offset lost, please restart"}, StreamGapError),
        (429, {}, RetryableError),
        (503, {"message": "Loading model"}, RetryableError),
        (502, None, RetryableError),
    ],
)
def test_statuses(status: int, error: Any, expected: type[Exception]) -> None:
    where = SseResumption({"messages": []}, "c1")
    where.next_request()
    body = b"<html>" if error is None else json.dumps({"error": error}).encode()
    with pytest.raises(expected) as raised:
        where.note_status(status, body, {"retry-after": "7"})
    if expected is RetryableError:
        assert raised.value.retry_after == 7  # type: ignore[attr-defined]
        assert where.next_request().method == "POST"  # it was refused: there is nothing to come back to


def test_errors_in_the_stream_come_behind_what_was_said() -> None:
    for error, expected in (({"code": 500, "message": "x"}, StreamFailedError), (GAP, StreamGapError)):
        where = begun()
        failure = b"data: " + json.dumps({"error": error}).encode() + b"\n\n"
        chunks = where.feed(EVENTS[0] + failure)
        assert next(chunks) == CHUNKS[0]
        with pytest.raises(expected):
            next(chunks)


def test_ends_that_are_none() -> None:
    where = begun()
    assert list(where.feed(EVENTS[0])) == CHUNKS[:1]
    with pytest.raises(RetryableError):
        where.note_end()
    where.next_request()
    where.note_status(200, b"", {})
    with pytest.raises(StreamFailedError, match="without its last event"):
        where.note_end()


def chunk(number: int) -> str:
    value = {"type": "chat.completion.chunk", "event_id": number, "data": CHUNKS[number]}
    return json.dumps(value)


def failure(code: int, **more: Any) -> str:
    return json.dumps({"type": "error", "request_id": "stream", "error": {"code": code, **more}})


def test_a_socket_creates_then_resumes() -> None:
    where = SocketResumption({"messages": []}, "c1")
    message = json.loads(where.first_message())
    assert message == {
        "type": "chat.completion.create",
        "conversation_id": "c1",
        "request_id": "stream",
        "body": {"messages": []},
    }
    assert where.feed(chunk(0)) == CHUNKS[:1]
    with pytest.raises(RetryableError):
        where.note_close()
    message = json.loads(where.first_message())
    assert (message["type"], message["after"]) == ("resume", 0)
    assert where.feed(json.dumps({"type": "control.result"})) == []
    assert where.feed(json.dumps({"type": "done"})) == []
    assert where.finished
    where.note_close()


def test_errors_of_a_socket() -> None:
    fresh = [(429, RetryableError), (503, RetryableError), (400, RequestRefusedError)]
    for code, expected in fresh:
        where = SocketResumption({}, "c1")
        where.first_message()
        with pytest.raises(expected):
            where.feed(failure(code))
    later = [(404, StreamGoneError), (500, StreamFailedError), (503, StreamFailedError)]
    for code, expected in later:
        where = SocketResumption({}, "c1")
        where.first_message()
        where.feed(chunk(0))
        with pytest.raises(expected):
            where.feed(failure(code))
    with pytest.raises(StreamGapError):
        where.feed(failure(400, type="stream_gap_error"))


def test_a_request_that_never_arrived_on_a_socket() -> None:
    where = SocketResumption({}, "c1")
    where.first_message()
    assert json.loads(where.first_message())["type"] == "resume"
    with pytest.raises(RetryableError):
        where.feed(failure(404))
    assert json.loads(where.first_message())["type"] == "chat.completion.create"


def test_retries() -> None:
    retries = Retries(RetryPolicy(max_retries=4, first_delay=1, max_delay=4))
    for most in (1, 2, 4, 4):
        assert most / 2 <= retries.delay(OSError()) <= most
    with pytest.raises(RetriesExhaustedError) as raised:
        retries.delay(OSError("last"))
    assert str(raised.value.__cause__) == "last"
    retries.note_progress()
    assert retries.delay(OSError(), at_least=30) == 30


def test_socket_urls() -> None:
    assert socket_url("http://a:1/") == "ws://a:1/v1/chat/completions/socket"
    assert socket_url("https://a/llm") == "wss://a/llm/v1/chat/completions/socket"
