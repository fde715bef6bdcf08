"""Turn measurements into the comparison's table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.goals import Figure, Goal, at_most
from bench.measure import RAW, Measurement
from bench.scenarios import GROUPS, Group, Scenario
from pyllama.loadtest import median

OURS, REFERENCE = "pyllama", "llama-server"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        group: The name of its group.
        better: "higher" or "lower", or "" for a figure without a ratio.
        factor: What the goal's bound is a multiple of.
    """

    group: str
    what: str
    unit: str
    ours: float
    reference: float
    better: str = ""
    goal: Goal | None = None
    factor: float = 1.0
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.ours / self.reference if self.better and self.reference else math.nan

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without one, or where a figure is missing."""
        return self.goal.met(self.ours, self.reference, self.factor) if self.goal else None


def rows(measurements: Sequence[Measurement], details: bool = False) -> list[Row]:
    """Return the table's rows, medians over the rounds, for one thread count."""
    table: list[Row] = []
    for name, group in GROUPS.items():
        mine = [m for m in measurements if m.group == name]
        if not mine:
            continue
        if not group.scenarios:
            table.append(_start_row(mine, group))
        for scenario in group.scenarios:
            table += _scenario_rows(mine, group, scenario, details)
        if group.raw is not None:
            raw = _raw(mine)
            table.append(Row(name, f"{RAW}: a token behind {group.raw.depth}", "ms", math.nan, raw))
        if group.memory:
            table += _memory_rows(mine, group)
    return table


def _start_row(measurements: Sequence[Measurement], group: Group) -> Row:
    # The first start of each server fills the page cache.
    ours, reference = (
        median([m.ready_s for m in measurements if m.server == server][1:]) for server in (OURS, REFERENCE)
    )
    return Row(group.name, "start to ready, warm 0.6B", "s", ours, reference, "lower", at_most(1.2))


def _scenario_rows(
    measurements: Sequence[Measurement], group: Group, scenario: Scenario, details: bool
) -> Iterable[Row]:
    title = f"{scenario.title}, {group.model}"
    for figure in scenario.figures:
        if figure.detail and not details:
            continue
        ours, ours_mode = _best(measurements, OURS, group, scenario, figure)
        reference, reference_mode = _best(measurements, REFERENCE, group, scenario, figure)
        if figure.ours_only:
            reference = math.nan
        factor = 1.0
        if figure.goal is not None and figure.goal.factor_of:
            other = Figure(figure.goal.factor_of, "", "")
            factor = _best(measurements, OURS, group, scenario, other)[0]
        yield Row(
            group.name,
            f"{title}: {figure.label}" if figure.label else title,
            figure.unit,
            ours,
            reference,
            figure.better,
            figure.goal,
            factor,
            f"{ours_mode} / {reference_mode}" if len(group.kv_modes) > 1 else "",
        )


def _memory_rows(measurements: Sequence[Measurement], group: Group) -> Iterable[Row]:
    kinds: tuple[tuple[str, Callable[[Measurement], float]], ...] = (
        ("resident after load", lambda m: m.loaded.rss),
        ("resident after serving", lambda m: m.served.rss),
        ("of that, proportional (Pss)", lambda m: m.served.pss),
        ("of that, anonymous", lambda m: m.served.anonymous),
    )
    for label, value in kinds:
        ours, reference = (
            median([value(m) for m in measurements if m.server == server]) for server in (OURS, REFERENCE)
        )
        goal = Goal("≤", 80, "difference", "MB") if label.startswith("resident") else None
        note = f"{ours - reference:+.0f} MB"
        yield Row(group.name, f"memory, {label}", "MB", ours, reference, goal=goal, note=note)


def _best(
    measurements: Sequence[Measurement], server: str, group: Group, scenario: Scenario, figure: Figure
) -> tuple[float, str]:
    """Return a server's figure in the KV mode in which it generates the most tokens per second."""
    mode = group.kv_modes[0]
    if len(group.kv_modes) > 1:
        rates = {
            mode: _figure(measurements, server, scenario, "tokens_per_s", mode) for mode in group.kv_modes
        }
        known = {mode: rate for mode, rate in rates.items() if not math.isnan(rate)}
        if not known:
            return math.nan, "-"
        mode = max(known, key=known.__getitem__)
    value = _figure(measurements, server, scenario, figure.key, mode)
    if figure.over_raw:
        value -= _raw(measurements)
    return value, "-kvu" if mode else "-no-kvu"


def _raw(measurements: Sequence[Measurement]) -> float:
    return median([m.scenarios["raw"]["step_ms"] for m in measurements if m.server == RAW])


def _figure(
    measurements: Sequence[Measurement], server: str, scenario: Scenario, key: str, unified: bool
) -> float:
    return median(
        [
            m.scenarios[scenario.name].get(key, math.nan)
            for m in measurements
            if m.server == server and m.unified == unified and scenario.name in m.scenarios
        ]
    )


def markdown(table: Sequence[Row]) -> str:
    """Return the table in Markdown."""
    lines = [
        f"| | unit | {OURS} | {REFERENCE} | ratio | goal | met | |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for row in table:
        numbers = (number(row.ours), number(row.reference), ratio(row))
        goal = "" if row.goal is None else str(row.goal)
        cells = (row.what, row.unit, *numbers, goal, verdict(row), row.note)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def number(value: float) -> str:
    """Return a figure as the table shows it."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def ratio(row: Row) -> str:
    """Return a row's ratio, nothing where it has none."""
    return "" if math.isnan(row.ratio) else f"{row.ratio:.2f}"


def verdict(row: Row) -> str:
    """Return whether a row's goal is met, nothing where that is unknown."""
    return {True: "yes", False: "no", None: ""}[row.met]


def disturbance(measurements: Sequence[Measurement]) -> float:
    """Return the most cores that other processes kept busy during any workload."""
    shares = (f.get("other_cores", 0.0) for m in measurements for f in m.scenarios.values())
    return max(shares, default=0.0)
