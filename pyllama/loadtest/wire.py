"""The client's side of HTTP/1.1: a request's bytes, a response as it comes in, and the events in its body.

While a load runs, a response is only framed: its pieces are kept with the times of their arrival. Events are
looked for when it is over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Event", "EventReader", "Response", "WireError", "read_events", "request_bytes"]

_MAX_HEAD = 1 << 16
_MAX_LINE = 1 << 12  # of a chunk's size, or of a trailer
# A blank line behind another line's end; each end is taken whole.
_BLANK = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")


class WireError(ValueError):
    """Bytes that are no HTTP/1.1 response, or not a whole one."""


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event and when its last byte arrived."""

    time_ns: int
    data: bytes


def request_bytes(
    authority: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str] | None = None
) -> bytes:
    """Return a request for one answer on this connection: POST with a JSON body, GET without one."""
    head = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", f"Host: {authority}", "Connection: close"]
    head += [f"{name}: {value}" for name, value in (headers or {}).items()]
    payload = b""
    if body is not None:
        payload = json.dumps(body).encode()
        head += ["Content-Type: application/json", f"Content-Length: {len(payload)}"]
    return ("\r\n".join(head) + "\r\n\r\n").encode() + payload


class Response:
    """A response as it comes in: ``feed`` what arrives, until it says that the response is over.

    Attributes:
        status: 0 until the head is there.
        pieces: What has come of the body, and the time in nanoseconds at which it did.
        n_bytes: Everything that has been fed.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[tuple[int, bytes]] = []
        self.n_bytes = 0
        self.complete = False
        self._line = bytearray()  # the head, or a line between chunks, that is not whole yet
        self._chunked = False
        self._left: int | None = None  # bytes of the body or of the chunk; None: until the connection ends
        self._between = "size"  # chunks: the line that is next: "size", "end" (behind a chunk), "trailer"

    @property
    def body(self) -> bytes:
        """What has come of the body."""
        return b"".join(data for _, data in self.pieces)

    def feed(self, time_ns: int, data: bytes) -> bool:
        """Take what has arrived; return whether the response is over.

        Raises:
            WireError: This is no HTTP/1.1 response.
        """
        self.n_bytes += len(data)
        if not self.status:
            data = self._head(data)
        if self.status and data and not self.complete:
            if self._chunked:
                self._chunks(time_ns, data)
            else:
                self._plain(time_ns, data)
        return self.complete

    def close(self) -> None:
        """The connection has ended.

        Raises:
            WireError: More should have come.
        """
        if not self.status:
            raise WireError("no answer" if self.n_bytes == 0 else "not a whole HTTP response")
        if not self.complete and (self._chunked or self._left is not None):
            raise WireError("the answer was cut off")
        self.complete = True

    def _head(self, data: bytes) -> bytes:
        """Take the head; return what is behind it."""
        self._line += data
        if not b"HTTP/1.".startswith(self._line[:7]):
            raise WireError("not an HTTP response")
        while not self.status:
            head, blank, rest = self._line.partition(b"\r\n\r\n")
            if not blank:
                if len(self._line) > _MAX_HEAD:
                    raise WireError(f"a response head of more than {_MAX_HEAD} bytes")
                return b""
            first, *lines = bytes(head).decode("latin-1").split("\r\n")
            code = first.split(" ", 2)[1:2]
            if not code or not re.fullmatch("[1-5][0-9][0-9]", code[0]):
                raise WireError("not an HTTP response")
            self._line = rest
            if code[0].startswith("1"):
                continue  # an interim response: the real one follows
            self.status = int(code[0])
            for line in lines:
                name, _, value = line.partition(":")
                self.headers[name.strip().lower()] = value.strip()
        self._chunked = self.headers.get("transfer-encoding", "").lower().endswith("chunked")
        if not self._chunked and "content-length" in self.headers:
            length = self.headers["content-length"]
            if not (length.isascii() and length.isdigit()):
                raise WireError(f"a Content-Length of {length!r}")
            self._left = int(length)
        self.complete = self._left == 0 and not self._chunked
        behind = bytes(self._line)
        self._line = bytearray()
        return behind

    def _plain(self, time_ns: int, data: bytes) -> None:
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
            self.complete = self._left == 0
        self.pieces.append((time_ns, data))

    def _chunks(self, time_ns: int, data: bytes) -> None:
        position = 0
        while position < len(data) and not self.complete:
            if self._left:
                piece = data[position : position + self._left]
                self.pieces.append((time_ns, piece))
                self._left -= len(piece)
                position += len(piece)
                continue
            end = data.find(b"\n", position)
            self._line += data[position : end + 1 if end >= 0 else len(data)]
            position = end + 1 if end >= 0 else len(data)
            if len(self._line) > _MAX_LINE:
                raise WireError("a line between chunks is too long")
            if end >= 0:
                line, self._line = bytes(self._line).rstrip(b"\r\n"), bytearray()
                self._take_line(line)

    def _take_line(self, line: bytes) -> None:
        if self._between == "trailer":
            self.complete = not line
        elif self._between == "end":
            if line:
                raise WireError("a chunk is longer than it says")
            self._between = "size"
        else:
            size = line.split(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,15}", size):
                raise WireError(f"a chunk of size {size[:20]!r}")
            self._left = int(size, 16)
            self._between = "end" if self._left else "trailer"


class EventReader:
    """Server-sent events as they come in; comments are left out, and so is an event that never ends."""

    def __init__(self) -> None:
        self._rest = bytearray()  # of the event that has not ended

    def feed(self, time_ns: int, data: bytes) -> list[Event]:
        """Take a piece of the body; return the events that it ends."""
        # What was there holds no blank line; one may lie across the seam.
        known = max(0, len(self._rest) - 3)
        self._rest += data
        events: list[Event] = []
        position = 0
        for start, end in [blank.span() for blank in _BLANK.finditer(self._rest, known)]:
            lines = bytes(self._rest[position:start]).splitlines()
            position = end
            text = b"\n".join(line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:"))
            if text:
                events.append(Event(time_ns, text))
        del self._rest[:position]
        return events


def read_events(pieces: Iterable[tuple[int, bytes]]) -> Iterator[Event]:
    """Yield the events of a body that came in these pieces."""
    reader = EventReader()
    for time_ns, data in pieces:
        yield from reader.feed(time_ns, data)
