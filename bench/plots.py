"""The page's plots, as SVG: how the ratios stand to their goals, and how times are distributed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.report import OURS, REFERENCE, Row

matplotlib.use("svg")
# The same measurements give the same bytes.
matplotlib.rcParams["svg.hashsalt"] = "pyllama"
matplotlib.rcParams["svg.fonttype"] = "none"
matplotlib.rcParams["font.size"] = 9

_COLOURS = {OURS: "#0b6fb8", REFERENCE: "#8a8a8a"}
_MET, _MISSED, _PLAIN = "#2f8f4e", "#c8452f", "#0b6fb8"
_TICKS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128)
_NAMES = {"ttft": "time to first token", "gap": "gap between tokens", "frame": "behind the engine's clock"}


def advantage(row: Row, ratio: float) -> float:
    """Return by how much a ratio is better than llama-server: above 1 is better, whatever is measured."""
    return ratio if row.better == "higher" else 1 / ratio


def ratio_plot(table: Sequence[Row], path: Path) -> bool:
    """Draw each row's ratio and goal; return whether there was any."""
    shown = [row for row in table if row.ratio > 0]
    if not shown:
        return False
    figure = Figure(figsize=(9, 0.9 + 0.26 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(reversed(shown)):
        value = advantage(row, row.ratio)
        colour = {True: _MET, False: _MISSED, None: _PLAIN}[row.met]
        axes.plot([1, value], [place, place], color=colour, linewidth=4, solid_capstyle="butt")
        axes.plot([value], [place], "o", color=colour, markersize=5)
        if row.goal is not None and row.goal.of == "ratio":
            axes.plot([advantage(row, row.goal.bound)], [place], "|", color="black", markersize=11)
    axes.set_yticks(range(len(shown)), [row.what for row in reversed(shown)])
    axes.set_ylim(-0.7, len(shown) - 0.3)
    goals = [row.goal.bound if row.goal is not None and row.goal.of == "ratio" else 1.0 for row in shown]
    ratios = zip(shown, goals, strict=True)
    _scale(axes, [advantage(row, value) for row, goal in ratios for value in (row.ratio, goal)])
    axes.axvline(1, color="black", linewidth=0.8)
    axes.grid(axis="x", linewidth=0.3)
    figure.supxlabel(
        f"times better than {REFERENCE} (logarithmic); the bar across marks the goal", fontsize=9
    )
    _save(figure, path)
    return True


def _scale(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(0.5, *values), max(2.0, *values)
    ticks = [
        tick for tick in (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128) if low * 0.8 <= tick <= high * 1.3
    ]
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(low * 0.8, high * 1.3)


def distribution_plot(values: Mapping[str, Mapping[str, Sequence[float]]], title: str, path: Path) -> bool:
    """Draw the share of values up to each, by measure and server; return whether there was any.

    ``values``: by measure and server, in milliseconds.
    """
    measures = [name for name, servers in values.items() if any(servers.values())]
    if not measures:
        return False
    figure = Figure(figsize=(4.6 * len(measures), 2.9), layout="constrained")
    for axes, measure in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True):
        for server, found in values[measure].items():
            ordered = [max(value, 0.01) for value in sorted(found) if not math.isnan(value)]
            if ordered:
                shares = [100 * (place + 1) / len(ordered) for place in range(len(ordered))]
                axes.step(
                    [ordered[0], *ordered],
                    [0, *shares],
                    where="post",
                    label=server,
                    color=_COLOURS.get(server),
                )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(0, 101)
        axes.set_xlabel(f"{_NAMES.get(measure, measure)}, ms")
        axes.set_ylabel("% at most")
        axes.grid(linewidth=0.3)
        axes.legend(loc="lower right", frameon=False)
    figure.suptitle(title)
    _save(figure, path)
    return True


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
