"""The figures of many requests."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pyllama.loadtest.sample import Refusal, Sample

__all__ = ["FailureCount", "Figures", "Objectives", "count_failures", "median", "percentile", "summarize"]

Figures = dict[str, float]

_MEASURES = ("ttft", "gap", "tpot", "total")


def percentile(values: Sequence[float], percent: float) -> float:
    """Return a percentile by linear interpolation, NaN of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def median(values: Iterable[float]) -> float:
    """Return the median of the values that are numbers, NaN of nothing."""
    return percentile([value for value in values if not math.isnan(value)], 50)


@dataclass(frozen=True, slots=True)
class Objectives:
    """What an answer has to keep to, to be a good one.

    Attributes:
        limits_ms: Milliseconds by measure: ``ttft``, ``gap`` (the answer's largest), ``tpot`` (mean time per
            token behind the first), ``total``.
    """

    limits_ms: dict[str, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Objectives:
        """Read ``ttft=500,gap=100``.

        Raises:
            ValueError: A measure is unknown, or its limit is no positive number.
        """
        limits: dict[str, float] = {}
        for part in text.split(","):
            name, _, value = part.partition("=")
            if name.strip() not in _MEASURES:
                raise ValueError(f"{part!r}: one of {', '.join(_MEASURES)}, '=' and milliseconds")
            try:
                limits[name.strip()] = float(value)
            except ValueError:
                raise ValueError(f"{part!r}: {value!r} is no number of milliseconds") from None
            if not 0 < limits[name.strip()] < math.inf:
                raise ValueError(f"{part!r}: more than 0 milliseconds")
        return cls(limits)

    def met(self, sample: Sample) -> bool:
        """Tell whether an answer keeps to all of them; what it has nothing of, it keeps to."""
        values = {
            "ttft": sample.ttft,
            "gap": max(sample.gaps, default=0.0),
            "tpot": 0.0 if math.isnan(sample.tpot) else sample.tpot,
            "total": sample.total,
        }
        return all(values[name] <= limit for name, limit in self.limits_ms.items())


def summarize(outcomes: Sequence[Sample | Refusal], objectives: Objectives | None = None) -> Figures:
    """Return the figures of a load.

    Tokens per second are all tokens of whole answers over the time from the first request to the last text.
    `added` is what a request took beyond the server's own prompt and decode time: HTTP, queueing, streaming.
    Figures of nothing are NaN.
    """
    samples = [outcome for outcome in outcomes if isinstance(outcome, Sample)]
    tokens = sum(s.completion_tokens for s in samples)
    seconds = (
        (max(s.end_ns for s in samples) - min(o.start_ns for o in outcomes)) / 1e9 if samples else math.nan
    )
    figures: Figures = {
        "requests": float(len(outcomes)),
        "answered": float(len(samples)),
        "tried_again": float(sum(o.n_tries > 1 for o in outcomes)),
        "seconds": seconds,
        "requests_per_s": len(samples) / seconds,
        "prompt_tokens": _mean([s.prompt_tokens for s in samples]),
        "cached_tokens": _mean([s.cached_tokens for s in samples]),
        "prompt_tokens_per_s": sum(s.prompt_tokens for s in samples) / seconds,
        "completion_tokens": float(tokens),
        "tokens_per_s": tokens / seconds,
    }
    measured = {
        "ttft": [s.ttft for s in samples],
        "gap": [gap for s in samples for gap in s.gaps],
        "tpot": [s.tpot for s in samples if not math.isnan(s.tpot)],
        "total": [s.total for s in samples],
        "late": [s.late for s in samples],
    }
    for name, values in measured.items():
        ordered = sorted(values)
        for percent in (50, 90, 99):
            figures[f"{name}_p{percent}_ms"] = percentile(ordered, percent)
        figures[f"{name}_max_ms"] = ordered[-1] if ordered else math.nan
    figures["step_ms"] = median(s.step for s in samples)
    figures["added_p50_ms"] = median(s.total - s.server for s in samples)
    figures["added_steps"] = median((s.total - s.server) / s.step for s in samples if s.step)
    if objectives is not None and objectives.limits_ms:
        n_good = sum(objectives.met(s) for s in samples)
        figures["good_share"] = n_good / len(outcomes) if outcomes else math.nan
        figures["good_per_s"] = n_good / seconds
    return figures


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


@dataclass(slots=True)
class FailureCount:
    """How often requests failed in one way.

    Attributes:
        example: The words of the first.
        waits: The seconds of each Retry-After.
    """

    kind: str
    example: str
    n: int = 0
    waits: list[float] = field(default_factory=list)


def count_failures(outcomes: Iterable[Sample | Refusal]) -> list[FailureCount]:
    """Return the failures by kind, the most frequent first."""
    counts: dict[str, FailureCount] = {}
    for outcome in outcomes:
        if isinstance(outcome, Refusal):
            failure = outcome.failure
            count = counts.setdefault(failure.kind, FailureCount(failure.kind, failure.detail))
            count.n += 1
            if not math.isnan(outcome.retry_after):
                count.waits.append(outcome.retry_after)
    return sorted(counts.values(), key=lambda count: -count.n)
