"""One start of one server: its readiness, its memory, and a group of workloads on it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.client import run_load
from bench.process import Memory, machine_busy_seconds, memory, thread_times, used_since
from bench.scenarios import WARM_UP, Group, Raw
from bench.servers import Server, ServerError, Settings, running
from bench.steady import CpuWatch, steady_cost
from bench.workloads import Result, Workload
from pyllama.loadtest import Figures, percentile

RAW = "llama-bench"
_POINTS = 200  # of a distribution that is kept
_NOTHING = Memory(math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one start of one server gave.

    Attributes:
        ready_s: From starting the process to the first 200 of /health.
        loaded: Memory once ready, before any request.
        served: Memory after all workloads of the group.
        scenarios: Figures by scenario.
        values: Of each scenario by measure, the percentiles from 0 to 100 in equal steps.
        command: What was run.
    """

    server: str
    group: str
    unified: bool
    threads: int
    ready_s: float = math.nan
    loaded: Memory = _NOTHING
    served: Memory = _NOTHING
    scenarios: dict[str, Figures] = field(default_factory=dict)
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)


def measure(name: str, command: Sequence[str], group: Group, settings: Settings) -> Measurement:
    """Start a server, do a group's workloads on it one after the other, and stop it."""
    figures: dict[str, Figures] = {}
    values: dict[str, dict[str, list[float]]] = {}
    with running(command, settings, f"{name}-{group.name}") as server:
        loaded = memory(server.pid)
        if group.scenarios:
            run_load(server.port, WARM_UP)
        for number, scenario in enumerate(group.scenarios):
            # Each has words of its own, or it would find its prompts in the cache.
            result = measure_workload(server, scenario.workload, number)
            figures[scenario.name] = result.figures
            values[scenario.name] = {measure: spread(each) for measure, each in result.values.items()}
        served = memory(server.pid)
        return Measurement(
            server=name,
            group=group.name,
            unified=settings.unified,
            threads=settings.threads,
            ready_s=server.ready_s,
            loaded=loaded,
            served=served,
            scenarios=figures,
            values=values,
            command=[*command, *settings.flags()],
        )


def measure_workload(server: Server, workload: Workload, seed: int) -> Result:
    """Do a workload and add the CPU time it took: the server's, Python's share of it, ours, and all others'.

    `python_steady` is Python's share while all users' answers come, without the set-up of their requests;
    `other_cores` is how many cores were busy with neither: near 0 on a quiet machine.
    """
    threads, busy = thread_times(server.pid), machine_busy_seconds()
    own, start = _own_seconds(), time.perf_counter()
    with CpuWatch(lambda: used_since({}, thread_times(server.pid), python_only=True)) as watch:
        result = workload.run(server.port, seed)
    client = _own_seconds() - own
    elapsed = time.perf_counter() - start
    busy = machine_busy_seconds() - busy
    after = thread_times(server.pid)
    figures = result.figures
    total = used_since(threads, after)
    python = used_since(threads, after, python_only=True)
    tokens = figures.get("completion_tokens", 0.0)
    for key, seconds in (("server", total), ("python", python), ("client", client)):
        figures[f"{key}_cpu_us_per_token"] = seconds * 1e6 / tokens if tokens else math.nan
    steady = steady_cost(result.samples, result.users, watch.readings)
    figures["python_steady_us_per_token"] = steady * 1e6
    figures["other_cores"] = max(0.0, busy - total - client) / elapsed
    return result


def measure_raw(bench: Path, group: Group, raw: Raw, settings: Settings) -> Measurement:
    """Run llama-bench: decoding behind so many tokens, without sampling and without a server.

    Raises:
        ServerError: It failed.
    """
    command = [str(bench), "-m", str(settings.model), "-t", str(settings.threads), "-b", str(settings.batch)]
    command += ["-ub", str(settings.ubatch), "-p", "0", "-n", str(raw.n_tokens), "-d", str(raw.depth)]
    command += ["-r", "3", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ServerError(f"{RAW} failed:\n{done.stderr[-2000:]}")
    step_ms = 1e3 / json.loads(done.stdout)[0]["avg_ts"]
    return Measurement(
        server=RAW,
        group=group.name,
        unified=settings.unified,
        threads=settings.threads,
        scenarios={"raw": {"step_ms": step_ms}},
        command=command,
    )


def spread(values: Sequence[float]) -> list[float]:
    """Return all values in order, or as many percentiles as a plot needs."""
    ordered = sorted(values)
    if len(ordered) <= _POINTS:
        return ordered
    return [percentile(ordered, 100 * point / _POINTS) for point in range(_POINTS + 1)]


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system
