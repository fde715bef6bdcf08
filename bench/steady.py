"""CPU time of a server while all streams of a load run: what a token costs, without requests' set-up."""

from __future__ import annotations

import bisect
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from types import TracebackType
from typing import Self

from pyllama.loadtest import Sample

__all__ = ["CpuWatch", "steady_cost", "steady_window"]

_PERIOD_S = 0.05


class CpuWatch:
    """Reads a counter of CPU seconds over and over; `readings` are pairs of nanoseconds and seconds."""

    def __init__(self, read: Callable[[], float]) -> None:
        self.readings: list[tuple[int, float]] = []
        self._read = read
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._note()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._note()

    def _run(self) -> None:
        while not self._over.wait(_PERIOD_S):
            self._note()

    def _note(self) -> None:
        self.readings.append((time.perf_counter_ns(), self._read()))


def steady_window(samples: Iterable[Sample], users: int) -> tuple[int, int] | None:
    """Return the longest time in which as many answers as users come, from and to in nanoseconds."""
    changes = sorted(
        change for s in samples for change in ((s.start_ns + int(s.ttft * 1e6), 1), (s.end_ns, -1))
    )
    running = accumulate(change for _, change in changes)
    windows = [
        (after - at, at, after)
        for (at, _), (after, _), n in zip(changes, changes[1:], running, strict=False)
        if n >= users and after > at
    ]
    return max(windows)[1:] if windows else None


def steady_cost(samples: Sequence[Sample], users: int, readings: Sequence[tuple[int, float]]) -> float:
    """Return the CPU seconds per token while all users' answers come; NaN where that is hardly ever so."""
    window = steady_window(samples, users)
    if window is None or window[1] - window[0] < 10 * _PERIOD_S * 1e9:
        return math.nan
    start, end = window
    tokens = 0
    for sample in samples:
        first = sample.start_ns + int(sample.ttft * 1e6)
        tokens += sum(start < first + int(at * 1e6) <= end for at in accumulate(sample.gaps))
    used = _at(readings, end) - _at(readings, start)
    return used / tokens if tokens else math.nan


def _at(readings: Sequence[tuple[int, float]], when: int) -> float:
    """Return what the counter said then, between two readings by a straight line."""
    after = min(max(1, bisect.bisect_left(readings, (when,))), len(readings) - 1)
    (t0, v0), (t1, v1) = readings[after - 1], readings[after]
    return v0 + (v1 - v0) * (when - t0) / (t1 - t0)
