"""A reader of one stream over a connection of its own, and what several of them must agree on."""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

from live_server import CHAT, LiveServer

DONE = b"data: [DONE]\n\n"
_ERROR = b'data: {"error"'


@dataclass(eq=False)
class Reader:
    """Bytes of a stream from ``start`` on, read as the test says."""

    client: socket.socket
    start: int
    data: bytearray = field(default_factory=bytearray)
    status: int = 0
    ended: bool = False  # the server ended the body
    dropped: bool = False
    _response: http.client.HTTPResponse | None = None

    def open(self) -> Reader:
        """Wait for the response's head."""
        self._response = http.client.HTTPResponse(self.client)
        self._response.begin()
        self.status = self._response.status
        return self

    def read(self, n_bytes: int) -> None:
        """Read so many bytes, fewer at the end."""
        if self._response is None:
            self.open()
        assert self._response is not None
        while n_bytes > 0 and not self.ended:
            part = self._response.read1(n_bytes)
            self.data += part
            n_bytes -= len(part)
            self.ended = not part

    def read_events(self, n_events: int) -> None:
        """Read until so many events are whole, fewer at the end."""
        while not self.ended and self.data.count(b"\n\n") < n_events:
            self.read(1)

    def read_to_end(self) -> Reader:
        """Read the rest."""
        while not self.ended:
            self.read(1 << 20)
        self.close()
        return self

    def drop(self, *, rudely: bool) -> None:
        """Leave without a word, or with a reset."""
        self.dropped = True
        if rudely:
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close the connection, which the response holds open as well."""
        if self._response is not None:
            self._response.close()
        self.client.close()

    @property
    def error(self) -> dict[str, Any] | None:
        """The error that ends the stream, if one does."""
        if self.status != 200:
            found: dict[str, Any] = json.loads(self.data)["error"]
            return found
        _, _, last = bytes(self.data).removesuffix(b"\n\n").rpartition(b"\n\n")
        last = last or bytes(self.data)
        if self.dropped or not last.removeprefix(b"data: ").startswith(b'{"error"'):
            return None
        return dict(json.loads(last.strip().removeprefix(b"data: "))["error"])

    @property
    def bytes_of_stream(self) -> bytes:
        """What it has of the stream itself: an error that was only for this reader is none of it."""
        if self.status != 200:
            return b""
        data = bytes(self.data)
        if self.error is not None:
            return data[: data.rindex(_ERROR)]
        begun = data[data.rfind(b"\n\n") + 2 :] if b"\n\n" in data else data
        # Who left in the middle of an event may have left in the middle of an error.
        if self.dropped and (_ERROR.startswith(begun) or begun.startswith(_ERROR)):
            return data[: len(data) - len(begun)]
        if self.dropped and data.rstrip(b"\n").rpartition(b"\n\n")[2].startswith(_ERROR):
            return data[: data.rindex(_ERROR)]
        return data

    @property
    def completion(self) -> str | None:
        """Whose bytes they are, None when they are too few to tell."""
        found = re.search(rb'"id":"(chatcmpl-[^"]*)"', self.bytes_of_stream)
        return found[1].decode() if found is not None else None


def post_stream(server: LiveServer, name: bytes, **fields: Any) -> Reader:
    """Post a streaming chat of a conversation; its head is not awaited."""
    body = json.dumps(
        {"messages": server.ordinary, "stream": True, "ignore_eos": True, "temperature": 0, **fields}
    ).encode()
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n" % (CHAT.encode(), len(body))
    head += b"x-conversation-id: %b\r\n\r\n" % name
    return Reader(server.connect(head + body), 0)


def get_stream(server: LiveServer, target: str, start: int = 0, *, slow: bool = False) -> Reader:
    """Ask for a stream again; its head is not awaited. ``slow``: little goes out before the test reads it."""
    head = f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    return Reader(server.connect(head, receive_buffer=4096 if slow else None), start)


def check_agreement(readers: list[Reader]) -> None:
    """Check that readers of the same stream have the same bytes at the same offsets."""
    streams: dict[str, list[Reader]] = {}
    for reader in readers:
        if (completion := reader.completion) is not None:
            streams.setdefault(completion, []).append(reader)
    for completion, members in streams.items():
        seen: dict[int, int] = {}
        for reader in members:
            for offset, byte in enumerate(reader.bytes_of_stream, reader.start):
                assert seen.setdefault(offset, byte) == byte, (completion, offset)


def check_end(reader: Reader) -> None:
    """Check that a stream ended with its last event or with an error, never silently."""
    if reader.status != 200 or reader.dropped:
        return
    assert reader.ended
    error = reader.error
    if error is None:
        whole = bytes(reader.data)
        # A reader that came behind the last byte has nothing.
        assert not whole or DONE.endswith(whole[-len(DONE) :]), whole[-200:]
    else:
        assert error["type"] in {"stream_gap_error", "not_found_error", "unavailable_error"}, error
        if error["type"] == "stream_gap_error":
            assert error["first_lost"] == reader.start + len(reader.bytes_of_stream)
