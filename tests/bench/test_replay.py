from __future__ import annotations

import pytest

from bench.replay import (
    Result,
    body_so_far,
    get_request,
    lags,
    percentile,
    post_request,
    step_times,
    table,
)
from pyllama.loadtest import Exchange

HEAD = b"HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n"
WHOLE = HEAD + b"5\r\nhello\r\n3\r\n, w\r\n4\r\norld\r\n0\r\n\r\n"


def received(raw: bytes) -> Exchange:
    exchange = Exchange(b"")
    exchange.response.feed(0, raw)
    return exchange


@pytest.mark.parametrize("n_bytes", range(len(WHOLE) + 1))
def test_a_body_that_is_cut_anywhere(n_bytes: int) -> None:
    got = body_so_far(received(WHOLE[:n_bytes]))
    assert b"hello, world".startswith(got)
    # No byte of a chunk is missing that has come.
    assert len(got) >= min(5, n_bytes - len(HEAD) - 3)
    assert n_bytes < len(WHOLE) or got == b"hello, world"


def test_no_body_of_an_error() -> None:
    assert body_so_far(received(b"HTTP/1.1 404 \r\n\r\n5\r\nhello\r\n")) == b""


def test_lags_are_behind_the_first() -> None:
    second = 10**9
    assert lags([[0, 2 * second], [second, second]]) == [0, 1, 1, 0]
    with pytest.raises(ValueError, match="zip"):
        lags([[0], [0, 1]])


def test_percentiles() -> None:
    values = [float(value) for value in range(100)]
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile([1.0], 0.99) == 1


def test_steps_by_the_engines_clock() -> None:
    chunks = [(1, 10.0), (2, 12.0), (4, 18.0), (4, 18.0)]
    body = b"".join(b'data: {"timings":{"predicted_n":%d,"predicted_ms":%f}}\n\n' % chunk for chunk in chunks)
    assert step_times(b'data: {"choices":[]}\n\n' + body + b"data: [DONE]\n\n") == [2.0, 3.0]


def test_requests_and_table() -> None:
    assert b"X-Conversation-Id: c\r\n" in post_request(1, "c", 3)
    assert get_request(1, "c", 5).startswith(b"GET /v1/stream/c?from=5 HTTP/1.1\r\n")
    assert table([Result("a", "b", "c")]).splitlines()[-1] == "| a | b | c |"
