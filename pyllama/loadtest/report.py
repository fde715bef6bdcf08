"""What a load came to, as text for people and as data."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, fields
from typing import Any

from pyllama.loadtest.figures import FailureCount, Figures, Objectives, count_failures, summarize
from pyllama.loadtest.runner import Run
from pyllama.loadtest.sample import Sample
from pyllama.version import package_version

__all__ = ["record", "text"]

_ROWS = (
    ("ttft", "time to first token"),
    ("gap", "gap between tokens"),
    ("tpot", "time per token, mean"),
    ("total", "whole request"),
)
_COLUMNS = ("p50", "p90", "p99", "max")
_BUSY = 0.8  # of a core: from here on the client may be what is measured


def text(run: Run, url: str, objectives: Objectives) -> str:
    """Return the report of a load."""
    load = run.load
    figures = summarize(run.outcomes, objectives)
    n_failed = len(run.outcomes) - int(figures["answered"])
    if load.rate is not None:
        shape = f"{load.rate:g} requests/s, {'poisson' if load.poisson else 'constant'}"
    else:
        shape = f"{load.users} user{'s' if load.users > 1 else ''}"
    lines = [f"{url}: {shape}"]
    ended = f"{figures['answered']:.0f} answered, {n_failed} failed"
    if run.n_unfinished:
        ended += f", {run.n_unfinished} unfinished"
    if figures["tried_again"]:
        ended += f", {figures['tried_again']:.0f} sent again"
    lines.append(ended)
    if figures["answered"]:
        lines += _measured(run, figures, objectives)
    lines += _failures(count_failures(run.outcomes))
    if run.cpu_share > _BUSY:
        lines += ["", f"This client used {run.cpu_share:.0%} of a core: it may be what was measured."]
    return "\n".join(lines)


def _measured(run: Run, figures: Figures, objectives: Objectives) -> list[str]:
    lines = [
        f"{figures['seconds']:.2f} s: {figures['requests_per_s']:.3g} requests/s, "
        f"{figures['tokens_per_s']:.4g} tokens/s, prompts {figures['prompt_tokens_per_s']:.4g} tokens/s",
        "",
        f"{'milliseconds':<22}" + "".join(f"{name:>11}" for name in _COLUMNS),
    ]
    rows = list(_ROWS)
    if run.load.rate is not None:
        rows.append(("late", "sent late by"))
    for name, title in rows:
        values = (_milliseconds(figures[f"{name}_{column}_ms"]) for column in _COLUMNS)
        lines.append(f"{title:<22}" + "".join(f"{value:>11}" for value in values))
    lines += [
        "",
        f"tokens of a request: {figures['prompt_tokens']:.1f} in ({figures['cached_tokens']:.1f} cached), "
        f"{figures['completion_tokens'] / figures['answered']:.1f} out",
    ]
    if any(isinstance(outcome, Sample) and outcome.counted for outcome in run.outcomes):
        lines.append("The server told no usage: tokens are events with text, prompts are unknown.")
    if objectives.limits_ms:
        goals = ", ".join(f"{name} ≤ {limit:g} ms" for name, limit in objectives.limits_ms.items())
        share, rate = figures["good_share"], figures["good_per_s"]
        lines.append(f"goodput ({goals}): {share:.1%} of all requests, {rate:.3g}/s")
    return lines


def _milliseconds(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _failures(counts: list[FailureCount]) -> list[str]:
    lines = ["", "failures:"] if counts else []
    for count in counts:
        wait = ""
        if count.waits:
            low, high = min(count.waits), max(count.waits)
            span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            wait = f" (Retry-After of {span} s on {len(count.waits)})"
        lines.append(f"{count.n:>6} {count.kind}{wait}: {count.example}")
    return lines


def record(run: Run, url: str, objectives: Objectives) -> dict[str, Any]:
    """Return a load, its figures and every request as plain data; what is not known is None."""
    load = run.load
    data: dict[str, Any] = _known(
        {
            "pyllama": package_version(),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "url": url,
            "load": {
                **{each.name: getattr(load, each.name) for each in fields(load) if each.name != "ask"},
                **{each.name: getattr(load.ask, each.name) for each in fields(load.ask)},
                "prompts": len(load.ask.prompts),
            },
            "slo": objectives.limits_ms,
            "figures": summarize(run.outcomes, objectives),
            "unfinished": run.n_unfinished,
            "client_cpu_share": run.cpu_share,
            "failures": [asdict(count) for count in count_failures(run.outcomes)],
            "requests": [
                asdict(outcome) for outcome in sorted(run.outcomes, key=lambda outcome: outcome.number)
            ],
        }
    )
    return data


def _known(value: Any) -> Any:
    """Return data in which None stands for what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _known(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_known(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
