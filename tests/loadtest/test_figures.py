from __future__ import annotations

import json
import math

import pytest

from pyllama.loadtest import (
    Ask,
    Failure,
    Load,
    Objectives,
    Refusal,
    Run,
    Sample,
    Target,
    count_failures,
    median,
    percentile,
    record,
    summarize,
    text,
)

MS = 1_000_000


def sample(start: int, end: int, gaps: list[float], tokens: int, step: float = math.nan) -> Sample:
    total = float(end - start)
    return Sample(
        number=start,
        start_ns=start * MS,
        end_ns=end * MS,
        late=0.5,
        ttft=10.0,
        gaps=gaps,
        total=total,
        prompt_tokens=20,
        cached_tokens=0,
        completion_tokens=tokens,
        counted=False,
        finish_reason="stop",
        server=total - 5,
        step=step,
        n_tries=1,
    )


def refusal(kind: str = "status 429", wait: float = math.nan, words: str = "full") -> Refusal:
    return Refusal(1, 0, Failure(kind, words), wait, 0, 1)


ONE, OTHER = sample(0, 1000, [1.0, 2.0], 30, 10.0), sample(500, 2000, [3.0, 100.0], 50, 2.5)


def test_figures_are_those_of_the_whole_load() -> None:
    figures = summarize([ONE, OTHER])
    assert figures["tokens_per_s"] == 40
    assert figures["requests_per_s"] == 1
    assert figures["completion_tokens"] == 80
    assert figures["gap_p50_ms"] == 2.5
    assert figures["gap_max_ms"] == 100
    assert figures["total_max_ms"] == 1500
    assert figures["added_p50_ms"] == 5
    assert figures["added_steps"] == (0.5 + 2) / 2
    assert "good_share" not in figures


def test_figures_of_nothing_are_unknown() -> None:
    for outcomes in ([], [refusal()]):
        figures = summarize(outcomes, Objectives({"ttft": 1.0}))
        assert figures["requests"] == len(outcomes)
        assert math.isnan(figures["tokens_per_s"])
        assert math.isnan(figures["ttft_p99_ms"])
        assert math.isnan(figures["gap_max_ms"])


@pytest.mark.parametrize(
    ("objectives", "n_good"),
    [("ttft=10", 2), ("ttft=9.9", 0), ("gap=50", 1), ("total=1200,gap=2", 1), ("tpot=32", 1), ("total=1", 0)],
)
def test_goodput_is_a_share_of_all_requests(objectives: str, n_good: int) -> None:
    figures = summarize([ONE, OTHER, refusal(), refusal()], Objectives.parse(objectives))
    assert figures["good_share"] == n_good / 4
    assert figures["good_per_s"] == n_good / 2


@pytest.mark.parametrize("wrong", ["", "ttft", "ttft=x", "ttft=-1", "ttft=nan", "speed=3", "ttft=1,,gap=2"])
def test_objectives_that_are_none(wrong: str) -> None:
    with pytest.raises(ValueError, match="milliseconds"):
        Objectives.parse(wrong)


def test_percentiles() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.5
    assert percentile([4.0, 1.0, 3.0, 2.0], 100) == 4
    assert percentile([1.0, 2.0], 25) == 1.25
    assert math.isnan(percentile([], 50))
    assert median([math.nan, 1.0, 3.0]) == 2


def test_failures_are_counted_by_kind() -> None:
    counts = count_failures([ONE, refusal("cut", words="gone"), refusal(wait=3), refusal(wait=5), refusal()])
    assert [(count.kind, count.n, count.example, count.waits) for count in counts] == [
        ("status 429", 3, "full", [3, 5]),
        ("cut", 1, "gone", []),
    ]


def finished(*outcomes: Sample | Refusal, load: Load | None = None) -> Run:
    run = Run(Target("h", 80), load or Load(Ask(), users=2))
    run.outcomes = list(outcomes)
    return run


def test_the_text() -> None:
    run = finished(ONE, OTHER, refusal(wait=3), refusal(wait=5))
    told = text(run, "http://h/", Objectives.parse("gap=50"))
    assert told.splitlines()[:3] == [
        "http://h/: 2 users",
        "2 answered, 2 failed",
        "2.00 s: 1 requests/s, 40 tokens/s, prompts 20 tokens/s",
    ]
    assert "time to first token         10.00      10.00      10.00      10.00" in told
    assert "goodput (gap ≤ 50 ms): 25.0% of all requests, 0.5/s" in told
    assert "     2 status 429 (Retry-After of 3 to 5 s on 2): full" in told
    assert "late" not in told


def test_the_text_of_an_open_loop_and_of_nothing() -> None:
    run = finished(ONE, load=Load(Ask(), rate=2.5, requests=3))
    run.n_unfinished = 2
    run.cpu_share = 0.9
    told = text(run, "u", Objectives())
    assert told.startswith("u: 2.5 requests/s, poisson\n1 answered, 0 failed, 2 unfinished\n")
    assert "sent late by" in told
    assert "This client used 90% of a core" in told
    assert text(finished(), "u", Objectives()) == "u: 2 users\n0 answered, 0 failed"


def test_the_record_is_json_and_holds_every_request() -> None:
    run = finished(refusal(), ONE, load=Load(Ask(prompts=[{"messages": []}] * 3)))
    data = json.loads(json.dumps(record(run, "u", Objectives()), allow_nan=False))
    assert data["figures"]["answered"] == 1
    assert data["failures"][0]["kind"] == "status 429"
    assert [len(request.get("gaps", [])) for request in data["requests"]] == [2, 0]
    assert data["requests"][1]["retry_after"] is None
    assert data["load"]["prompts"] == 3
