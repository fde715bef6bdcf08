from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.wire import Arrival, is_complete, parse_response, request_bytes

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


def test_request_has_a_length_and_its_body() -> None:
    head, _, body = request_bytes("host:1", "/path", {"ö": 1}).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /path HTTP/1.1\r\nHost: host:1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert json.loads(body) == {"ö": 1}
    assert request_bytes("host:1", "/health", None).startswith(b"GET /health HTTP/1.1\r\n")


def test_an_event_has_the_time_of_its_last_byte() -> None:
    raw = HEAD + chunked(b"data: one\n\nda", b"ta: two\n\n: ping\n\ndata: three\n\n")
    cut = raw.index(b"wo\n\n: ping") + 3
    arrivals: list[Arrival] = [(10, raw[: cut - 1]), (20, raw[cut - 1 : cut]), (30, raw[cut:])]
    events = parse_response(arrivals).events
    assert [(event.time_ns, event.data) for event in events] == [(10, b"one"), (30, b"two"), (30, b"three")]


@given(st.lists(st.integers(0, 300)), st.lists(st.binary(max_size=40), max_size=6))
def test_arrivals_may_be_cut_anywhere(cuts: list[int], texts: list[bytes]) -> None:
    parts = [b"data: " + text.hex().encode() + b"\n\n" for text in texts]
    raw = HEAD + chunked(*(part for part in parts))
    edges = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    arrivals = [(end, raw[start:end]) for start, end in pairwise(edges)]
    events = parse_response(arrivals).events
    assert [event.data for event in events] == [text.hex().encode() for text in texts if text]
    # Each time is here the number of bytes received, so no event may be dated before its own end.
    for event in events:
        assert raw.index(b"data: " + event.data + b"\n\n") + len(event.data) + 8 <= event.time_ns


def test_lines_may_end_a_multi_line_event() -> None:
    raw = HEAD + chunked(b"event: x\ndata: a\ndata:b\nid: 3\n\n")
    assert [event.data for event in parse_response([(0, raw)]).events] == [b"a\nb"]


@pytest.mark.parametrize("missing", [1, 4, 5, 9, 30])
def test_a_cut_response_is_refused(missing: int) -> None:
    raw = HEAD + chunked(b"data: something long enough\n\n")
    if missing > 4:  # the last chunk's own ending is not looked at
        with pytest.raises(ValueError, match="cut off"):
            parse_response([(0, raw[:-missing])])
    assert is_complete(raw)
    assert not is_complete(raw[:-missing])


def test_a_body_of_known_length() -> None:
    raw = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy"
    assert is_complete(raw)
    assert not is_complete(raw[:-1])
    response = parse_response([(0, raw)])
    assert (response.status, response.body, response.events) == (503, b"busy", [])
    with pytest.raises(ValueError, match="cut off"):
        parse_response([(0, raw[:-1])])


def test_anything_else_is_refused() -> None:
    with pytest.raises(ValueError, match="not an HTTP response"):
        parse_response([(0, b"SSH-2.0-OpenSSH\r\n")])
