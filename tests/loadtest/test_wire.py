from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyllama.loadtest.wire import Event, EventReader, Response, WireError, read_events, request_bytes

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


def received(*arrivals: tuple[int, bytes]) -> Response:
    response = Response()
    for time_ns, data in arrivals:
        response.feed(time_ns, data)
    return response


def all_events(*arrivals: tuple[int, bytes]) -> list[Event]:
    return list(read_events(received(*arrivals).pieces))


def test_request_has_a_length_and_its_body() -> None:
    head, _, body = request_bytes("host:1", "/path", {"ö": 1}, {"X-A": "b"}).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /path HTTP/1.1\r\nHost: host:1\r\n")
    assert b"\r\nX-A: b\r\n" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body) == {"ö": 1}
    assert request_bytes("host:1", "/health", None).startswith(b"GET /health HTTP/1.1\r\n")


def test_an_event_has_the_time_of_its_last_byte() -> None:
    raw = HEAD + chunked(b"data: one\n\nda", b"ta: two\n\n: ping\n\ndata: three\n\n")
    cut = raw.index(b"wo\n\n: ping") + 3
    events = all_events((10, raw[: cut - 1]), (20, raw[cut - 1 : cut]), (30, raw[cut:]))
    assert [(event.time_ns, event.data) for event in events] == [(10, b"one"), (30, b"two"), (30, b"three")]


@given(
    st.lists(st.integers(0, 400)),
    st.lists(st.binary(max_size=40), max_size=6),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
)
def test_arrivals_may_be_cut_anywhere(cuts: list[int], texts: list[bytes], end: bytes) -> None:
    parts = [b"data: " + text.hex().encode() + end + end for text in texts]
    raw = b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + chunked(*parts)
    edges = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    response = Response()
    for start, stop in pairwise(edges):
        assert not response.complete
        response.feed(stop, raw[start:stop])
    assert response.complete
    assert (response.status, response.body) == (200, b"".join(parts))
    events = list(read_events(response.pieces))
    assert [event.data for event in events] == [text.hex().encode() for text in texts if text]
    # Each time is here the number of bytes received, so no event may be dated before its own end.
    position = 0
    for event in events:
        position = raw.index(b"data: " + event.data + end, position) + len(event.data) + 6
        assert position + len(end) + 1 <= event.time_ns  # of a second CR LF, the CR is enough


def test_lines_may_end_a_multi_line_event() -> None:
    assert [e.data for e in all_events((0, HEAD + chunked(b"event: x\ndata: a\ndata:b\nid: 3\n\n")))] == [
        b"a\nb"
    ]


def test_a_reader_keeps_what_has_not_ended() -> None:
    reader = EventReader()
    assert reader.feed(1, b"data: a\r\n") == []
    assert reader.feed(2, b"\r\ndata: b\n") == [Event(2, b"a")]
    assert reader.feed(3, b"\n") == [Event(3, b"b")]


@pytest.mark.parametrize("missing", range(1, 40))
def test_a_cut_response_is_refused(missing: int) -> None:
    raw = HEAD + chunked(b"data: something long enough\n\n")
    assert received((0, raw)).complete
    response = received((0, raw[:-missing]))
    assert not response.complete
    with pytest.raises(WireError, match="cut off"):
        response.close()


def test_a_body_of_known_length() -> None:
    raw = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\nRetry-After: 2\r\n\r\nbusy"
    response = received((0, raw))
    assert response.complete
    assert (response.status, response.body, response.headers["retry-after"]) == (503, b"busy", "2")
    with pytest.raises(WireError, match="cut off"):
        received((0, raw[:-1])).close()
    more = received((0, raw + b"surplus"))
    assert (more.complete, more.body) == (True, b"busy")
    assert received((0, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")).complete


def test_a_body_that_ends_with_the_connection() -> None:
    response = received((0, b"HTTP/1.0 200 OK\r\n\r\nda"), (1, b"ta: x\n\n"))
    assert not response.complete
    response.close()
    assert response.complete
    assert response.body == b"data: x\n\n"


def test_chunks_may_have_extensions_and_trailers() -> None:
    response = received((0, HEAD + b"3;a=b\r\nabc\r\n0\r\nX: y\r\n"))
    assert not response.complete
    assert response.feed(1, b"\r\n")
    assert response.body == b"abc"


def test_anything_else_is_refused() -> None:
    with pytest.raises(WireError, match="not an HTTP response"):
        received((0, b"SSH-2.0-OpenSSH\r\n"))
    with pytest.raises(WireError, match="no answer"):
        Response().close()
