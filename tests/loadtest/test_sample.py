from __future__ import annotations

import json
import math
from typing import Any

import pytest

from pyllama.loadtest import Exchange, Failure, Refusal, Sample, read_exchange
from pyllama.loadtest.sample import text_times

MS = 1_000_000


def exchange(chunks: list[tuple[int, dict[str, Any]]], status: str = "200 OK", done: bool = True) -> Exchange:
    """Record a response whose events arrive one by one at the given milliseconds after it was due."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    recorded = Exchange(b"", number=3, due_ns=5 * MS, sent_ns=6 * MS, n_tries=1)
    recorded.response.feed(6 * MS, head.encode())
    for time, chunk in chunks:
        event = b"data: " + json.dumps(chunk).encode() + b"\n\n"
        recorded.response.feed((5 + time) * MS, b"%x\r\n%s\r\n" % (len(event), event))
    if done:
        recorded.response.feed(90 * MS, b"e\r\ndata: [DONE]\n\n\r\n")
    recorded.response.feed(91 * MS, b"0\r\n\r\n")
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


def sample_of(recorded: Exchange) -> Sample:
    outcome = read_exchange(recorded)
    assert isinstance(outcome, Sample)
    return outcome


def test_a_sample_counts_reasoning_content_and_tools_and_not_the_role() -> None:
    recorded = exchange(
        [
            (2, delta(role="assistant", content=None)),
            (10, delta(reasoning_content="a")),
            (20, delta(content="b")),
            (50, delta(tool_calls=[{"index": 0}])),
            (51, delta()),
            (52, USAGE | TIMINGS),
        ]
    )
    sample = sample_of(recorded)
    assert sample.late == 1
    assert sample.ttft == 10
    assert sample.gaps == [10, 30]
    assert sample.total == 50
    assert sample.tpot == 20
    assert (sample.prompt_tokens, sample.cached_tokens, sample.completion_tokens) == (11, 4, 3)
    assert (sample.server, sample.step) == (28, 10)
    assert text_times(recorded) == [15 * MS, 25 * MS, 55 * MS]


def test_timings_and_usage_may_be_missing() -> None:
    sample = sample_of(exchange([(10, delta(content="a")), (20, delta(content="b"))]))
    assert math.isnan(sample.server)
    assert (sample.completion_tokens, sample.counted, sample.prompt_tokens) == (2, True, 0)
    assert math.isnan(sample_of(exchange([(10, delta(content="a"))])).tpot)


def test_an_answer_may_end_with_its_reason_alone() -> None:
    chunk = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}
    sample = sample_of(exchange([(10, delta(content="a")), (11, chunk)], done=False))
    assert sample.finish_reason == "length"


@pytest.mark.parametrize("value", [-1, 10**400, "3", None, True, [], 1e999, math.nan, {}])
def test_hostile_numbers(value: Any) -> None:
    usage = {"usage": {"prompt_tokens": value, "completion_tokens": value, "prompt_tokens_details": value}}
    timings = {"timings": {"prompt_ms": value, "predicted_per_token_ms": value}}
    sample = sample_of(exchange([(10, delta(content="a")), (11, usage | timings)]))
    assert 0 <= sample.prompt_tokens <= 1


@pytest.mark.parametrize(
    ("recorded", "kind", "words"),
    [
        (exchange([(1, USAGE)]), "empty", "without text"),
        (exchange([(1, delta(content="a")), (2, {"error": {"message": "no room"}})]), "error", "no room"),
        (exchange([(1, delta(content="a")), (2, {"choices": [3]})]), "garbage", "no chunk"),
        (exchange([(1, delta(content="a")), (2, {"timings": [3]})]), "garbage", "no chunk"),
        (exchange([(1, delta(content="a"))], done=False), "cut", "finish reason"),
        (exchange([], status="429 Too Many Requests"), "status 429", ""),
    ],
)
def test_a_bad_answer_is_a_refusal(recorded: Exchange, kind: str, words: str) -> None:
    outcome = read_exchange(recorded)
    assert isinstance(outcome, Refusal)
    assert outcome.failure.kind == kind
    assert words in outcome.failure.detail
    assert outcome.number == 3


def test_what_had_come_of_a_broken_answer_is_counted() -> None:
    recorded = exchange([(1, delta(content="a")), (2, delta(content="b"))])
    recorded.failure = Failure("cut", "gone")
    outcome = read_exchange(recorded)
    assert isinstance(outcome, Refusal)
    assert (outcome.failure.detail, outcome.completion_tokens) == ("gone", 2)
