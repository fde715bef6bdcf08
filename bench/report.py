"""Turn measurements into the comparison's table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from bench.measure import Measurement
from bench.sample import median
from bench.scenarios import GROUPS, Group, Scenario

OURS, REFERENCE = "pyllama", "llama-server"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        better: "higher" or "lower", or "" for a figure without a ratio.
        goal: What the project wants of the ratio, the difference or the figure itself.
    """

    what: str
    unit: str
    ours: float
    reference: float
    better: str = ""
    goal: str = ""
    note: str = ""

    @property
    def ratio(self) -> float:
        return self.ours / self.reference if self.better and self.reference else math.nan


@dataclass(frozen=True, slots=True)
class _Figure:
    """A figure of a scenario's and how it is shown."""

    key: str
    label: str
    unit: str
    better: str
    goal: str = ""


_RATE = _Figure("tokens_per_s", "", "tokens/s", "higher", "≥ 1.0")
_TTFT = _Figure("ttft_p50_ms", "TTFT", "ms", "lower", "≤ 1.1")
_DETAILS = (
    _Figure("ttft_p50_ms", "TTFT p50", "ms", "lower"),
    _Figure("gap_p50_ms", "gap p50", "ms", "lower"),
    _Figure("gap_p99_ms", "gap p99", "ms", "lower"),
    _Figure("gap_max_ms", "gap max", "ms", "lower"),
    _Figure("step_ms", "server's own time per token", "ms", "lower"),
    _Figure("added_steps", "added latency", "steps", ""),
    _Figure("server_cpu_us_per_token", "server CPU per token", "µs", "lower"),
)


def rows(measurements: Sequence[Measurement], details: bool = False) -> list[Row]:
    """Return the table's rows, medians over the rounds, for one thread count."""
    table: list[Row] = []
    for name, group in GROUPS.items():
        mine = [m for m in measurements if m.group == name]
        if not mine:
            continue
        if not group.scenarios:
            table.append(_start_row(mine))
        for scenario in group.scenarios:
            table += _scenario_rows(mine, group, scenario, details)
        if name == "real":
            table += _memory_rows(mine)
    return table


def _start_row(measurements: Sequence[Measurement]) -> Row:
    # The first start of each server fills the page cache.
    ours, reference = (
        median([m.ready_s for m in measurements if m.server == server][1:]) for server in (OURS, REFERENCE)
    )
    return Row("start to ready, warm 0.6B", "s", ours, reference, "lower", "≤ 1.2")


def _scenario_rows(
    measurements: Sequence[Measurement], group: Group, scenario: Scenario, details: bool
) -> Iterable[Row]:
    title = f"{scenario.title}, {group.model}"
    figures = [_TTFT if scenario.name == "ttft" else _RATE]
    if details and scenario.name != "ttft":
        figures += _DETAILS
    for figure in figures:
        ours, ours_mode = _best(measurements, OURS, group, scenario, figure)
        reference, reference_mode = _best(measurements, REFERENCE, group, scenario, figure)
        note = f"{ours_mode} / {reference_mode}" if len(group.kv_modes) > 1 else ""
        what = f"{title}: {figure.label}" if figure.label else title
        yield Row(what, figure.unit, ours, reference, figure.better, figure.goal, note)
    if scenario.name == "users32":
        yield from _streaming_rows(measurements, group, scenario, title)


def _streaming_rows(
    measurements: Sequence[Measurement], group: Group, scenario: Scenario, title: str
) -> Iterable[Row]:
    python = _figure(measurements, OURS, scenario, "python_cpu_us_per_token", group.kv_modes[0])
    goal = "≤ 30 µs" if group.name == "real" else ""
    yield Row(f"{title}: CPU of Python's threads per token", "µs", python, math.nan, goal=goal)
    for key, label, unit, goal in (
        ("gap_p99_ms", "gap p99", "ms", ""),
        ("added_steps", "latency added to the server's own time", "steps", "≤ 1"),
    ):
        ours, reference = (
            _figure(measurements, server, scenario, key, group.kv_modes[0]) for server in (OURS, REFERENCE)
        )
        yield Row(f"{title}: {label}", unit, ours, reference, goal=goal if group.name == "real" else "")


def _memory_rows(measurements: Sequence[Measurement]) -> Iterable[Row]:
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
        goal = "≤ 80 MB more" if label.startswith("resident") else ""
        yield Row(f"memory, {label}", "MB", ours, reference, goal=goal, note=f"{ours - reference:+.0f} MB")


def _best(
    measurements: Sequence[Measurement], server: str, group: Group, scenario: Scenario, figure: _Figure
) -> tuple[float, str]:
    """Return a server's figure in the KV mode in which it generates the most tokens per second."""
    rates = {mode: _figure(measurements, server, scenario, "tokens_per_s", mode) for mode in group.kv_modes}
    known = {mode: rate for mode, rate in rates.items() if not math.isnan(rate)}
    if not known:
        return math.nan, "-"
    mode = max(known, key=known.__getitem__)
    return _figure(measurements, server, scenario, figure.key, mode), "-kvu" if mode else "-no-kvu"


def _figure(
    measurements: Sequence[Measurement], server: str, scenario: Scenario, key: str, unified: bool
) -> float:
    return median(
        [
            m.scenarios[scenario.name][key]
            for m in measurements
            if m.server == server and m.unified == unified and scenario.name in m.scenarios
        ]
    )


def markdown(table: Sequence[Row]) -> str:
    """Return the table in Markdown."""
    lines = [
        f"| | unit | {OURS} | {REFERENCE} | ratio | goal | |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in table:
        numbers = (_number(row.ours), _number(row.reference), _ratio(row))
        cells = (row.what, row.unit, *numbers, row.goal, row.note)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _ratio(row: Row) -> str:
    return "" if math.isnan(row.ratio) else f"{row.ratio:.2f}"


def disturbance(measurements: Sequence[Measurement]) -> float:
    """Return the most cores that other processes kept busy during any load."""
    return max((f["other_cores"] for m in measurements for f in m.scenarios.values()), default=0.0)
