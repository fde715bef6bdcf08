"""What one request measured, and the figures of many."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from bench.wire import Arrival, parse_response

Figures = dict[str, float]


@dataclass(slots=True)
class Exchange:
    """A request as recorded: when it was sent, and each recv() of its response."""

    user: int
    turn: int
    sent_ns: int
    arrivals: list[Arrival] = field(default_factory=list)
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One answered request. Times in milliseconds.

    Attributes:
        ttft: From sending to the arrival of the first event with text.
        gaps: Between the arrivals of one event with text and the next.
        total: From sending to the arrival of the last event with text.
        server: The server's own prompt and decode time together; NaN when it gave no timings.
        step: The server's own time per decoded token; NaN likewise.
    """

    start_ns: int
    end_ns: int
    ttft: float
    gaps: list[float]
    total: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    server: float
    step: float


class LoadError(RuntimeError):
    """A request of the load was not answered as it has to be."""


def read_sample(exchange: Exchange) -> Sample:
    """Parse a recorded exchange.

    Raises:
        LoadError: The request failed, the answer was cut off, or it held no text or no usage.
    """
    where = f"user {exchange.user}, request {exchange.turn}"
    if exchange.failure is not None:
        raise LoadError(f"{where}: {exchange.failure}")
    try:
        response = parse_response(exchange.arrivals)
    except ValueError as error:
        raise LoadError(f"{where}: {error}") from error
    if response.status != 200:
        raise LoadError(f"{where}: status {response.status}: {response.body[:300].decode(errors='replace')}")
    times: list[int] = []
    usage: dict[str, Any] = {}
    timings: dict[str, Any] = {}
    for event in response.events:
        if event.data == b"[DONE]":
            continue
        chunk = json.loads(event.data)
        if "error" in chunk:
            raise LoadError(f"{where}: {chunk['error']}")
        usage = chunk.get("usage") or usage
        timings = chunk.get("timings") or timings
        if any(_has_text(choice.get("delta") or {}) for choice in chunk.get("choices") or []):
            times.append(event.time_ns)
    if not times or not usage:
        raise LoadError(f"{where}: an answer without {'usage' if times else 'text'}")
    return Sample(
        start_ns=exchange.sent_ns,
        end_ns=times[-1],
        ttft=(times[0] - exchange.sent_ns) / 1e6,
        gaps=[(after - before) / 1e6 for before, after in pairwise(times)],
        total=(times[-1] - exchange.sent_ns) / 1e6,
        prompt_tokens=int(usage["prompt_tokens"]),
        cached_tokens=int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0),
        completion_tokens=int(usage["completion_tokens"]),
        server=float(timings.get("prompt_ms", math.nan)) + float(timings.get("predicted_ms", math.nan)),
        step=float(timings.get("predicted_per_token_ms", math.nan)),
    )


def _has_text(delta: dict[str, Any]) -> bool:
    return bool(delta.get("content") or delta.get("reasoning_content"))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile by linear interpolation, NaN of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def median(values: Sequence[float]) -> float:
    """Return the median of the values that are numbers, NaN of nothing."""
    return percentile([value for value in values if not math.isnan(value)], 50)


def summarize(samples: Sequence[Sample]) -> Figures:
    """Return the figures of one load.

    Tokens per second are all generated tokens over the time from the first request to the last text. `added`
    is what a request took beyond the server's own prompt and decode time: HTTP, queueing, streaming.
    """
    gaps = [gap for sample in samples for gap in sample.gaps]
    tokens = sum(sample.completion_tokens for sample in samples)
    seconds = (max(s.end_ns for s in samples) - min(s.start_ns for s in samples)) / 1e9
    return {
        "requests": float(len(samples)),
        "prompt_tokens": sum(s.prompt_tokens for s in samples) / len(samples),
        "cached_tokens": sum(s.cached_tokens for s in samples) / len(samples),
        "completion_tokens": float(tokens),
        "seconds": seconds,
        "tokens_per_s": tokens / seconds,
        "ttft_p50_ms": percentile([s.ttft for s in samples], 50),
        "ttft_p95_ms": percentile([s.ttft for s in samples], 95),
        "total_p50_ms": percentile([s.total for s in samples], 50),
        "gap_p50_ms": percentile(gaps, 50),
        "gap_p95_ms": percentile(gaps, 95),
        "gap_p99_ms": percentile(gaps, 99),
        "gap_max_ms": max(gaps, default=math.nan),
        "step_ms": median([s.step for s in samples]),
        "added_p50_ms": median([s.total - s.server for s in samples]),
        "added_steps": median([(s.total - s.server) / s.step for s in samples if s.step]),
    }


def as_json(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Return the samples as plain data."""
    return [asdict(sample) for sample in samples]
