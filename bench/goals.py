"""What the table shows of a scenario, and what the project wants of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on the ratio to llama-server, on our own figure, or on what ours is more.

    Attributes:
        of: "ratio", "ours" or "difference".
        factor_of: Another figure of ours that the bound is a multiple of.
    """

    relation: Literal["≤", "≥"]
    bound: float
    of: Literal["ratio", "ours", "difference"] = "ratio"
    unit: str = ""
    factor_of: str = ""

    def __str__(self) -> str:
        if self.factor_of:
            return f"ours {self.relation} {self.bound:g} x {self.factor_of.removesuffix('_ms')}"
        of = {"ratio": "", "ours": "ours ", "difference": ""}[self.of]
        more = " more" if self.of == "difference" else ""
        return f"{of}{self.relation} {self.bound:g}{f' {self.unit}' if self.unit else ''}{more}"

    def met(self, ours: float, reference: float, factor: float = 1.0) -> bool | None:
        """Tell whether figures keep to it, None where one that is needed is unknown."""
        value = {"ratio": _ratio(ours, reference), "ours": ours, "difference": ours - reference}[self.of]
        bound = self.bound * factor
        if math.isnan(value) or math.isnan(bound):
            return None
        return value <= bound if self.relation == "≤" else value >= bound


def _ratio(ours: float, reference: float) -> float:
    return ours / reference if reference else math.nan


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a scenario's and how it is shown.

    Attributes:
        better: "higher" or "lower", or "" for a figure without a ratio.
        over_raw: Whether llama-bench's own figure is taken off: what a server adds to bare decoding.
        ours_only: Whether it says nothing of another server.
        detail: Whether it is shown only when asked for.
    """

    key: str
    label: str
    unit: str
    better: Literal["higher", "lower", ""] = ""
    goal: Goal | None = None
    over_raw: bool = False
    ours_only: bool = False
    detail: bool = False


def at_most(bound: float) -> Goal:
    """Return a goal for a ratio that is better when it is lower."""
    return Goal("≤", bound)


def at_least(bound: float) -> Goal:
    """Return a goal for a ratio that is better when it is higher."""
    return Goal("≥", bound)


RATE = Figure("tokens_per_s", "", "tokens/s", "higher", at_least(1.0))
TTFT = Figure("ttft_p50_ms", "TTFT", "ms", "lower", at_most(1.1))
DETAILS = (
    Figure("ttft_p50_ms", "TTFT p50", "ms", "lower", detail=True),
    Figure("gap_p50_ms", "gap p50", "ms", "lower", detail=True),
    Figure("gap_p99_ms", "gap p99", "ms", "lower", detail=True),
    Figure("gap_max_ms", "gap max", "ms", "lower", detail=True),
    Figure("step_ms", "server's own time per token", "ms", "lower", detail=True),
    Figure("added_steps", "added latency", "steps", detail=True),
    Figure("server_cpu_us_per_token", "server CPU per token", "µs", "lower", detail=True),
)


def streaming(counts: bool) -> tuple[Figure, ...]:
    """Return what is shown of many streams at once; `counts` is whether the goals are for this model."""
    cpu, added = (Goal("≤", 30, "ours", "µs"), Goal("≤", 1, "ours")) if counts else (None, None)
    return (
        Figure(
            "python_steady_us_per_token",
            "CPU of Python's threads per token while all stream",
            "µs",
            goal=cpu,
            ours_only=True,
        ),
        Figure("python_cpu_us_per_token", "the same with the requests' set-up", "µs", ours_only=True),
        Figure("gap_p99_ms", "gap p99", "ms"),
        Figure("added_steps", "latency added to the server's own time", "steps", goal=added),
    )


BURST = (
    Figure("ttft_p50_ms", "TTFT p50", "ms", "lower", at_most(0.35)),
    Figure("ttft_max_ms", "TTFT of the last", "ms", "lower", at_most(0.2)),
    Figure("seconds", "makespan", "s", "lower", at_most(0.4)),
)
WARM_BURST = (
    Figure("ttft_p50_ms", "TTFT p50", "ms", "lower", at_most(1.05)),
    Figure("ttft_max_ms", "TTFT of the last", "ms", "lower", at_most(1.05)),
    Figure("seconds", "makespan", "s", "lower", at_most(1.05)),
)
ARRIVAL = (
    Figure("gap_max_ms", "the streams' largest gap", "ms", "lower", at_most(0.15)),
    Figure("gap_p99_ms", "their gap p99", "ms", goal=Goal("≤", 2, "ours", factor_of="budget_ms")),
    Figure("budget_ms", "step budget", "ms", ours_only=True),
    Figure("rate_share", "their tokens/s over idle", "", goal=Goal("≥", 0.5, "ours")),
    Figure("ttft_p50_ms", "the prompt's own TTFT", "ms", "lower", at_most(1.3)),
)
OVERHEAD_GREEDY = Figure("tpot_p50_ms", "", "ms", goal=Goal("≤", 0.1, "ours", "ms"), over_raw=True)
OVERHEAD_DEFAULT = Figure("tpot_p50_ms", "", "ms", goal=Goal("≤", 0.2, "ours", "ms"), over_raw=True)
FRAMES = (
    Figure("frame_p99_ms", "sample to frame p99 at the end", "ms", goal=Goal("≤", 100, "ours", "ms")),
    Figure("early_p99_ms", "the same near the start", "ms"),
    Figure("tokens_per_s", "whole answer", "tokens/s", "higher"),
)
