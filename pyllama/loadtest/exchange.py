"""One request on a connection of its own: connecting, sending and receiving without waiting."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import ssl
import time
from dataclasses import dataclass, field

from pyllama.loadtest.target import Address, Target
from pyllama.loadtest.wire import Response, WireError

__all__ = ["Exchange", "Failure", "Limits", "Link"]

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_WANTED = 1 << 18  # bytes of a recv()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server may take, so that none holds a load up for ever.

    Attributes:
        connect_s: Seconds to connect, TLS included.
        stall_s: Seconds without a byte.
        total_s: Seconds from connecting to the last byte.
        n_bytes: Of one response.
    """

    connect_s: float = 10.0
    stall_s: float = 300.0
    total_s: float = 900.0
    n_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request was not answered: a kind to count by, and words about it, which may be the server's."""

    kind: str
    detail: str


@dataclass(slots=True, eq=False)
class Exchange:
    """A request as recorded.

    Attributes:
        due_ns: When it was to be sent: what latencies count from.
        sent_ns: When its connection was begun; the last one, if it was tried again.
        over: Whether nothing more will come.
    """

    request: bytes
    number: int = 0
    user: int = 0
    due_ns: int = 0
    sent_ns: int = 0
    n_tries: int = 0
    response: Response = field(default_factory=Response)
    failure: Failure | None = None
    over: bool = False

    @property
    def n_arrived(self) -> int:
        """How many pieces of the body have come."""
        return len(self.response.pieces)


class Link:
    """An exchange's connection: connecting → (TLS handshake →) sending → receiving → over.

    ``step`` does what can be done when the socket is ready for what is ``wanted``. A failure ends the
    exchange and raises nothing.

    Raises:
        OSError: No socket can be made.
    """

    def __init__(
        self, exchange: Exchange, target: Target, address: Address, tls: ssl.SSLContext | None, limits: Limits
    ) -> None:
        self.exchange = exchange
        self.wanted = _WRITE
        self._host = target.host
        self._tls = tls
        self._limits = limits
        self._stage = "connect"
        self._out = memoryview(exchange.request)
        exchange.sent_ns = self._heard_ns = time.perf_counter_ns()
        exchange.due_ns = exchange.due_ns or exchange.sent_ns
        exchange.n_tries += 1
        self.socket = socket.socket(address.family, socket.SOCK_STREAM)
        self.fd = self.socket.fileno()  # stays the same when the socket is wrapped
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = self.socket.connect_ex(address.place)
        if code not in (0, errno.EINPROGRESS):
            self._fail("connect", os.strerror(code))

    def step(self) -> bool:
        """Go on as far as possible; return whether the exchange is over."""
        try:
            self._go()
        except ssl.SSLWantReadError:
            self.wanted = _READ
        except ssl.SSLWantWriteError:
            self.wanted = _WRITE
        except BlockingIOError:
            self.wanted = _READ if self._stage == "receive" else _READ | _WRITE
        except WireError as exc:
            self._fail("garbage", str(exc))
        except ssl.SSLCertVerificationError as exc:
            self._fail("tls", exc.verify_message)
        except ssl.SSLError as exc:
            self._fail("tls", exc.reason or str(exc))
        except OSError as exc:
            self._fail("connect" if self._stage in ("connect", "tls") else "cut", exc.strerror or str(exc))
        return self.exchange.over

    def check(self, now_ns: int) -> bool:
        """End an exchange that takes too long; return whether it is over."""
        limits = self._limits
        elapsed_s = (now_ns - self.exchange.sent_ns) / 1e9
        if self._stage in ("connect", "tls") and elapsed_s > limits.connect_s:
            self._fail("connect", f"no connection after {limits.connect_s:g} s")
        elif elapsed_s > limits.total_s:
            self._fail("timeout", f"not over after {limits.total_s:g} s")
        elif (now_ns - self._heard_ns) / 1e9 > limits.stall_s:
            self._fail("stalled", f"nothing came for {limits.stall_s:g} s")
        return self.exchange.over

    def _go(self) -> None:
        if self._stage == "connect":
            if code := self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            self._stage = "send"
            if self._tls is not None:
                self._stage = "tls"
                self.socket = self._tls.wrap_socket(
                    self.socket, server_hostname=self._host, do_handshake_on_connect=False
                )
        if isinstance(self.socket, ssl.SSLSocket) and self._stage == "tls":
            self.socket.do_handshake()
            self._stage = "send"
        if self._stage == "send":
            try:
                self._send()
            except BlockingIOError:
                self._receive()  # a long request may be refused before all of it has gone
        else:
            self._receive()

    def _send(self) -> None:
        try:
            while self._out:
                self._out = self._out[self.socket.send(self._out) :]
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have answered before it hung up: a refusal of a long body
        self._stage = "receive"
        self.wanted = _READ
        self._heard_ns = time.perf_counter_ns()

    def _receive(self) -> None:
        exchange = self.exchange
        while not exchange.over:
            data = self.socket.recv(_WANTED)
            self._heard_ns = now_ns = time.perf_counter_ns()
            if not data:
                try:
                    exchange.response.close()
                except WireError as exc:
                    self._fail("cut", str(exc))
                exchange.over = True
            elif exchange.response.feed(now_ns, data):
                exchange.over = True
            elif exchange.response.n_bytes > self._limits.n_bytes:
                self._fail("too long", f"more than {self._limits.n_bytes} bytes")
            if self._tls is None:
                return  # with TLS, what is left may be decrypted already, and no selector tells

    def _fail(self, kind: str, detail: str) -> None:
        self.exchange.failure = Failure(kind, detail)
        self.exchange.over = True
