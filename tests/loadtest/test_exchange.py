"""One exchange, step by step, on a socket that fails where the test says."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from pyllama.loadtest.exchange import Exchange, Limits, Link
from pyllama.loadtest.target import Target, resolve

REFUSAL = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"


class HungUp:
    """Takes so many bytes of a request, and then its peer is gone; what the peer said before can be read."""

    def __init__(self, n_taken: int, failure: OSError, said: bytes) -> None:
        self._n_left = n_taken
        self._failure = failure
        self._said = said

    def getsockopt(self, *_: int) -> int:
        return 0

    def send(self, data: memoryview) -> int:
        if self._n_left == 0:
            raise self._failure
        n = min(self._n_left, len(data))
        self._n_left -= n
        return n

    def recv(self, _: int) -> bytes:
        said, self._said = self._said, b""
        return said


@pytest.fixture
def link() -> Iterator[Link]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = Target.parse(f"http://127.0.0.1:{listener.getsockname()[1]}")
        link = Link(Exchange(b"x" * 100), target, resolve(target, 10), None, Limits())
        real = link.socket
        yield link
        real.close()


def steps(link: Link) -> Exchange:
    while not link.step():
        pass
    return link.exchange


@pytest.mark.parametrize("failure", [BrokenPipeError(32, "broken"), ConnectionResetError(104, "reset")])
@pytest.mark.parametrize("n_taken", [0, 1, 99])
def test_what_was_said_before_hanging_up_is_read(link: Link, n_taken: int, failure: Any) -> None:
    link.socket = HungUp(n_taken, failure, REFUSAL)  # type: ignore[assignment]
    exchange = steps(link)
    assert exchange.failure is None
    assert (exchange.response.status, exchange.response.body) == (413, b"no")


def test_hanging_up_without_a_word_is_a_cut(link: Link) -> None:
    link.socket = HungUp(10, BrokenPipeError(32, "broken"), b"")  # type: ignore[assignment]
    exchange = steps(link)
    assert exchange.failure is not None
    assert exchange.failure.kind == "cut"
