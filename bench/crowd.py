"""Many readers of streams at once: one thread, raw sockets, and nothing parsed while they read."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.sample import LoadError
from bench.servers import HOST
from bench.wire import TAIL, Arrival, is_complete

LIMIT_S = 120.0


@dataclass(slots=True)
class CrowdReader:
    """One connection: its request, and each recv() of its response."""

    request: bytes
    arrivals: list[Arrival] = field(default_factory=list)
    complete: bool = False
    connection: socket.socket | None = None

    @property
    def raw(self) -> bytes:
        """Everything it has received."""
        return b"".join(data for _, data in self.arrivals)


class Crowd:
    """Connections that are read as fast as they can be. ``with`` closes what is open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self.readers: list[CrowdReader] = []
        self.n_open = 0

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for reader in self.readers:
            self.drop(reader)
        self._selector.close()

    def open(self, request: bytes) -> CrowdReader:
        """Connect and send a request."""
        reader = CrowdReader(request)
        reader.connection = connection = socket.create_connection((HOST, self._port))
        connection.sendall(request)
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ, reader)
        self.readers.append(reader)
        self.n_open += 1
        return reader

    def drop(self, reader: CrowdReader) -> None:
        """Close a connection, whatever was still to come; idempotent."""
        if reader.connection is not None:
            self._selector.unregister(reader.connection)
            reader.connection.close()
            reader.connection = None
            self.n_open -= 1

    def read_until(self, done: Callable[[], bool], until: float = float("inf")) -> None:
        """Read until ``done()``, or until that time of ``time.perf_counter()``.

        Raises:
            LoadError: It took too long.
        """
        deadline = time.perf_counter() + LIMIT_S
        while not done():
            now = time.perf_counter()
            if now >= until:
                return
            if now >= deadline:
                raise LoadError(f"{self.n_open} readers did not end in time")
            for key, _ in self._selector.select(min(until, deadline) - now):
                self._take(key.data)

    def read_all(self) -> None:
        """Read until every connection has ended."""
        self.read_until(lambda: self.n_open == 0)

    def _take(self, reader: CrowdReader) -> None:
        assert reader.connection is not None
        try:
            data = reader.connection.recv(1 << 18)
        except BlockingIOError:
            return
        reader.arrivals.append((time.perf_counter_ns(), data))
        if data and not is_complete(_tail(reader.arrivals)):
            return
        reader.complete = bool(data)
        self.drop(reader)


def _tail(arrivals: Sequence[Arrival]) -> bytes:
    data = arrivals[-1][1]
    if len(data) >= TAIL or len(arrivals) == 1:
        return data
    return arrivals[-2][1][-TAIL:] + data


def body_so_far(raw: bytes) -> bytes:
    """Return what a chunked response has brought of its body, whole or cut off anywhere."""
    head, separator, rest = raw.partition(b"\r\n\r\n")
    if not separator or b" 200 " not in head.split(b"\r\n")[0]:
        return b""
    parts: list[bytes] = []
    position = 0
    while (line_end := rest.find(b"\r\n", position)) >= 0:
        size = int(rest[position:line_end], 16)
        parts.append(rest[line_end + 2 : line_end + 2 + size])
        position = line_end + 2 + size + 2
        if size == 0:
            break
    return b"".join(parts)


def lags(times: Sequence[Sequence[int]]) -> list[float]:
    """Return how much later than the first reader each reader got each event, in seconds.

    ``times``: of each reader, the nanoseconds at which its events arrived; all have the same events.
    """
    return [(at - min(each)) / 1e9 for each in zip(*times, strict=True) for at in each]
