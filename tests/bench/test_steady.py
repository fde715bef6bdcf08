from __future__ import annotations

import math
from typing import Any

import pytest

from bench.steady import CpuWatch, steady_cost, steady_window
from pyllama.loadtest import Sample

MS = 1_000_000


def answer(start_ms: int, ttft: float, gaps: list[float]) -> Sample:
    end = start_ms * MS + int((ttft + sum(gaps)) * MS)
    rest: dict[str, Any] = dict.fromkeys(Sample.__dataclass_fields__, 0)
    return Sample(**{**rest, "start_ns": start_ms * MS, "ttft": ttft, "gaps": gaps, "end_ns": end})


def test_the_window_is_when_all_stream() -> None:
    first = answer(0, 100, [100.0] * 9)  # to 1,000 ms
    second = answer(50, 150, [200.0] * 6)  # from 200 to 1,400 ms
    assert steady_window([first, second], 2) == (200 * MS, 1000 * MS)
    assert steady_window([first, second], 1) == (200 * MS, 1000 * MS)
    assert steady_window([first, second], 3) is None


def test_of_several_windows_the_longest_counts() -> None:
    samples = [answer(0, 0, [300.0]), answer(0, 0, [2000.0]), answer(500, 0, [1000.0])]
    assert steady_window(samples, 2) == (500 * MS, 1500 * MS)


def test_the_cost_is_of_the_tokens_in_the_window() -> None:
    first = answer(0, 100, [100.0] * 9)
    second = answer(50, 150, [200.0] * 6)
    # A second of CPU until both stream, 40 ms a second then.
    readings = [(0, 0.0), (200 * MS, 1.0), (600 * MS, 1.016), (1400 * MS, 1.048)]
    assert steady_cost([first, second], 2, readings) == pytest.approx(0.032 / (8 + 4))


def test_a_short_window_tells_nothing() -> None:
    assert math.isnan(steady_cost([answer(0, 100, [100.0])], 1, [(0, 0.0), (300 * MS, 1.0)]))
    assert math.isnan(steady_cost([], 1, [(0, 0.0), (1, 0.0)]))


def test_a_watch_reads_at_both_ends() -> None:
    counts = iter(range(1000))
    with CpuWatch(lambda: next(counts)) as watch:
        pass
    values = [value for _, value in watch.readings]
    assert values == sorted(values)
    assert len(values) >= 2
