"""One start of one server: its readiness, its memory, and a group of loads on it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bench.load import Load, run_load
from bench.process import Memory, machine_busy_seconds, memory, thread_times, used_since
from bench.sample import Figures, summarize
from bench.scenarios import WARM_UP, Group
from bench.servers import HOST, Server, Settings, running


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one start of one server gave.

    Attributes:
        ready_s: From starting the process to the first 200 of /health.
        loaded: Memory once ready, before any request.
        served: Memory after all loads of the group.
        scenarios: Figures by scenario.
    """

    server: str
    group: str
    unified: bool
    threads: int
    ready_s: float
    loaded: Memory
    served: Memory
    scenarios: dict[str, Figures] = field(default_factory=dict)


def measure(name: str, command: Sequence[str], group: Group, settings: Settings) -> Measurement:
    """Start a server, run a group's loads on it one after the other, and stop it."""
    figures: dict[str, Figures] = {}
    with running(command, settings, f"{name}-{group.name}") as server:
        loaded = memory(server.pid)
        if group.scenarios:
            run_load(HOST, server.port, WARM_UP)
        for number, scenario in enumerate(group.scenarios):
            # Each load has words of its own, or it would find its prompts in the cache.
            figures[scenario.name] = measure_load(server, replace(scenario.load, seed=number))
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
        )


def measure_load(server: Server, load: Load) -> Figures:
    """Run a load and add the CPU time it took: the server's, Python's share of it, ours, and all others'.

    `other_cores` is how many cores were busy with neither: near 0 on a quiet machine.
    """
    threads, busy = thread_times(server.pid), machine_busy_seconds()
    own, start = _own_seconds(), time.perf_counter()
    samples = run_load(HOST, server.port, load)
    client = _own_seconds() - own
    elapsed = time.perf_counter() - start
    busy = machine_busy_seconds() - busy
    after = thread_times(server.pid)
    figures = summarize(samples)
    tokens = figures["completion_tokens"]
    total = used_since(threads, after)
    figures["server_cpu_us_per_token"] = total * 1e6 / tokens
    figures["python_cpu_us_per_token"] = used_since(threads, after, python_only=True) * 1e6 / tokens
    figures["client_cpu_us_per_token"] = client * 1e6 / tokens
    figures["other_cores"] = max(0.0, busy - total - client) / elapsed
    return figures


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system
