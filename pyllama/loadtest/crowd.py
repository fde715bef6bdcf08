"""Many connections at once: one thread, raw sockets, and nothing parsed while they are read.

While a load runs, next to nothing is taken from the cores that a server on this machine computes on: a
response is framed and kept with the times of its pieces.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable
from typing import Self

from pyllama.loadtest.exchange import Exchange, Failure, Limits, Link
from pyllama.loadtest.target import Address, Target, resolve
from pyllama.loadtest.wire import Response

__all__ = ["Crowd"]

_CHECK_S = 0.25  # how often limits are looked at


class Crowd:
    """Connections that are read as fast as they can be; a context manager that closes what is open.

    Attributes:
        ended: The exchanges that are over, in that order; the caller may take them out.

    Raises:
        TargetError: The target cannot be reached.
    """

    def __init__(self, target: Target, limits: Limits | None = None, address: Address | None = None) -> None:
        self.target = target
        self._limits = limits or Limits()
        self._address = address or resolve(target, self._limits.connect_s)
        self._tls = target.tls()
        self._selector = selectors.DefaultSelector()
        self._links: dict[Exchange, Link] = {}
        self._check_at = 0.0
        self.ended: list[Exchange] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for exchange in list(self._links):
            self.drop(exchange)
        self._selector.close()

    @property
    def n_open(self) -> int:
        """How many connections there are."""
        return len(self._links)

    def open(self, request: bytes, number: int = 0, user: int = 0, due_ns: int = 0) -> Exchange:
        """Begin to send a request; ``due_ns`` is when it should have been, now if 0."""
        exchange = Exchange(request, number, user, due_ns)
        self._begin(exchange)
        return exchange

    def retry(self, exchange: Exchange) -> None:
        """Send a request again whose answer is over."""
        exchange.response, exchange.failure, exchange.over = Response(), None, False
        self._begin(exchange)

    def drop(self, exchange: Exchange) -> None:
        """Close a connection, whatever was still to come; idempotent."""
        if link := self._links.pop(exchange, None):
            self._selector.unregister(link.fd)
            link.socket.close()

    def read_until(self, done: Callable[[], bool], until: float = float("inf")) -> bool:
        """Read until ``done()``, until that time of ``time.perf_counter()``, or while anything is open.

        Return what ``done()`` says then. With a time and nothing open it waits for the time.
        """
        while not done():
            now = time.perf_counter()
            if now >= until or (until == float("inf") and not self._links):
                return False
            for key, _ in self._selector.select(min(until - now, _CHECK_S)):
                self._step(key.data)
            if time.perf_counter() >= self._check_at:
                self._check()
        return True

    def read_all(self) -> None:
        """Read until every connection has ended."""
        self.read_until(lambda: not self._links)

    def _begin(self, exchange: Exchange) -> None:
        try:
            link = Link(exchange, self.target, self._address, self._tls, self._limits)
        except OSError as exc:  # this side's own limits, such as open files
            exchange.failure, exchange.over = Failure("client", exc.strerror or str(exc)), True
            self.ended.append(exchange)
            return
        self._selector.register(link.fd, link.wanted, link)
        self._links[exchange] = link
        if exchange.over:
            self._end(link)

    def _step(self, link: Link) -> None:
        wanted = link.wanted
        if link.step():
            self._end(link)
        elif link.wanted != wanted:
            self._selector.modify(link.fd, link.wanted, link)

    def _check(self) -> None:
        self._check_at = time.perf_counter() + _CHECK_S
        now_ns = time.perf_counter_ns()
        for link in [link for link in self._links.values() if link.check(now_ns)]:
            self._end(link)

    def _end(self, link: Link) -> None:
        self.drop(link.exchange)
        self.ended.append(link.exchange)
