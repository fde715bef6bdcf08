from __future__ import annotations

import json
import math
from typing import Any

import pytest

from bench.sample import Exchange, LoadError, Sample, median, percentile, read_sample, summarize

MS = 1_000_000


def exchange(chunks: list[tuple[int, dict[str, Any]]], status: str = "200 OK") -> Exchange:
    """Record a response whose events arrive one by one at the given milliseconds after sending."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    recorded = Exchange(user=3, turn=1, sent_ns=5 * MS, arrivals=[(6 * MS, head.encode())])
    for time, chunk in chunks:
        event = b"data: " + json.dumps(chunk).encode() + b"\n\n"
        recorded.arrivals.append(((5 + time) * MS, b"%x\r\n%s\r\n" % (len(event), event)))
    end = b"data: [DONE]\n\n"
    recorded.arrivals.append((90 * MS, b"%x\r\n%s\r\n0\r\n\r\n" % (len(end), end)))
    return recorded


def delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields}]}


USAGE = {
    "choices": [],
    "usage": {
        "prompt_tokens": 11,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 4},
    },
}
TIMINGS = {"timings": {"prompt_ms": 8.0, "predicted_ms": 20.0, "predicted_per_token_ms": 10.0}}


def test_a_sample_counts_reasoning_and_content_and_not_the_role() -> None:
    sample = read_sample(
        exchange(
            [
                (2, delta(role="assistant", content=None)),
                (10, delta(reasoning_content="a")),
                (20, delta(content="b")),
                (50, delta(content="c")),
                (51, delta()),
                (52, USAGE | TIMINGS),
            ]
        )
    )
    assert sample.ttft == 10
    assert sample.gaps == [10, 30]
    assert sample.total == 50
    assert (sample.prompt_tokens, sample.cached_tokens, sample.completion_tokens) == (11, 4, 3)
    assert (sample.server, sample.step) == (28, 10)


def test_timings_may_be_missing() -> None:
    sample = read_sample(exchange([(10, delta(content="a")), (52, USAGE)]))
    assert math.isnan(sample.server)
    figures = summarize([sample])
    assert math.isnan(figures["added_p50_ms"])
    assert math.isnan(figures["gap_max_ms"])


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        (exchange([(1, delta(content="a"))]), "user 3, request 1: an answer without usage"),
        (exchange([(1, USAGE)]), "an answer without text"),
        (exchange([(1, delta(content="a")), (2, {"error": {"message": "no room"}})]), "no room"),
        (exchange([], status="429 Too Many Requests"), "status 429"),
        (Exchange(3, 1, 0, [(0, b"HTTP/1.1 200 OK\r\n")]), "not an HTTP response"),
        (Exchange(3, 1, 0, [], failure="the connection broke"), "the connection broke"),
    ],
)
def test_a_bad_answer_is_an_error(recorded: Exchange, message: str) -> None:
    with pytest.raises(LoadError, match=message):
        read_sample(recorded)


def test_figures_are_those_of_the_whole_load() -> None:
    def sample(start: int, end: int, gaps: list[float], tokens: int, step: float) -> Sample:
        total = float(end - start)
        return Sample(start * MS, end * MS, 10.0, gaps, total, 20, 0, tokens, total - 5, step)

    figures = summarize([sample(0, 1000, [1.0, 2.0], 30, 10.0), sample(500, 2000, [3.0, 100.0], 50, 2.5)])
    assert figures["tokens_per_s"] == 40
    assert figures["completion_tokens"] == 80
    assert figures["gap_p50_ms"] == 2.5
    assert figures["gap_max_ms"] == 100
    assert figures["added_p50_ms"] == 5
    assert figures["added_steps"] == (0.5 + 2) / 2


def test_percentiles() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.5
    assert percentile([4.0, 1.0, 3.0, 2.0], 100) == 4
    assert percentile([1.0, 2.0], 25) == 1.25
    assert math.isnan(percentile([], 50))
    assert median([math.nan, 1.0, 3.0]) == 2
