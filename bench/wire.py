"""The client's side of HTTP: a request's bytes, and what a recorded response says.

Nothing here runs while a load is being measured: responses are recorded as raw bytes and parsed afterwards.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

# An arrival is the time of a recv() in nanoseconds and what it returned.
Arrival = tuple[int, bytes]

_END_OF_CHUNKS = b"\r\n0\r\n\r\n"
TAIL = 512  # bytes at a response's end that is_complete() wants to see at least


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event and when its last byte arrived."""

    time_ns: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response: status, body, and its events where it is an event stream."""

    status: int
    body: bytes
    events: list[Event]


def request_bytes(host: str, path: str, body: dict[str, Any] | None) -> bytes:
    """Return a request for one answer on this connection: POST with a JSON body, GET without one."""
    head = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
    payload = b""
    if body is not None:
        payload = json.dumps(body).encode()
        head += ["Content-Type: application/json", f"Content-Length: {len(payload)}"]
    return ("\r\n".join(head) + "\r\n\r\n").encode() + payload


def is_complete(received: bytes | bytearray) -> bool:
    """Tell whether a response has ended, given all of it or, for a chunked one, its last bytes.

    A chunked body ends in the empty chunk; JSON and event streams never hold a bare CR LF inside. Anything
    else has a Content-Length, and then the whole response has to be given.
    """
    if received.endswith(_END_OF_CHUNKS):
        return True
    head, separator, body = bytes(received).partition(b"\r\n\r\n")
    if not separator or not head.startswith(b"HTTP/"):
        return False
    length = _header(head, b"content-length")
    return length is not None and len(body) >= int(length)


def parse_response(arrivals: list[Arrival]) -> Response:
    """Take a recorded response apart.

    Raises:
        ValueError: It is not an HTTP/1.1 response, or it was cut off.
    """
    raw = b"".join(data for _, data in arrivals)
    head, separator, _ = raw.partition(b"\r\n\r\n")
    if not separator or not head.startswith(b"HTTP/1."):
        raise ValueError("not an HTTP response")
    status = int(head.split(b" ", 2)[1])
    start = len(head) + 4
    if (_header(head, b"transfer-encoding") or b"").lower() == b"chunked":
        body, spans = _dechunk(raw, start)
    else:
        body = raw[start:]
        length = _header(head, b"content-length")
        if length is not None and len(body) < int(length):
            raise ValueError("the response was cut off")
        spans = [(0, start)]
    events: list[Event] = []
    if (_header(head, b"content-type") or b"").startswith(b"text/event-stream"):
        events = _events(body, spans, arrivals)
    return Response(status, body, events)


def _header(head: bytes, name: bytes) -> bytes | None:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return None


def _dechunk(raw: bytes, position: int) -> tuple[bytes, list[tuple[int, int]]]:
    """Return the body, and for each chunk its first byte's offset in the body and in the raw bytes."""
    parts: list[bytes] = []
    spans: list[tuple[int, int]] = []
    length = 0
    while True:
        line_end = raw.find(b"\r\n", position)
        if line_end < 0:
            raise ValueError("the response was cut off")
        size = int(raw[position:line_end].split(b";")[0], 16)
        position = line_end + 2
        if size == 0:
            return b"".join(parts), spans
        if position + size + 2 > len(raw):
            raise ValueError("the response was cut off")
        spans.append((length, position))
        parts.append(raw[position : position + size])
        length += size
        position += size + 2


def _events(body: bytes, spans: list[tuple[int, int]], arrivals: list[Arrival]) -> list[Event]:
    ends = list(accumulate(len(data) for _, data in arrivals))
    starts = [start for start, _ in spans]
    events: list[Event] = []
    position = 0
    while (end := body.find(b"\n\n", position)) >= 0:
        lines = body[position:end].split(b"\n")
        position = end + 2
        data = b"\n".join(line[5:].lstrip(b" ") for line in lines if line.startswith(b"data:"))
        if not data:
            continue  # a keep-alive comment
        start, raw_start = spans[bisect_left(starts, position) - 1]
        raw_end = raw_start + position - start
        events.append(Event(arrivals[bisect_left(ends, raw_end)][0], data))
    return events
