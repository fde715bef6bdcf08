"""What the kernel tells about a running server: memory, and CPU time by thread (Linux)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# Threads of pyllama's core that hold no Python; ggml's workers inherit the engine's name.
CORE_THREADS = frozenset({"pyllama-engine", "pyllama-render"})


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory in MB (10⁶ bytes).

    Attributes:
        rss: All resident pages, those of the mapped model file included.
        pss: The same with shared pages divided among their users.
        anonymous: Pages that belong to no file: heap, KV cache, compute buffers.
    """

    rss: float
    pss: float
    anonymous: float


def parse_smaps_rollup(text: str) -> Memory:
    """Read /proc/<pid>/smaps_rollup, which counts in kB of 1,024 bytes."""
    kilobytes: dict[str, float] = {}
    for line in text.splitlines()[1:]:
        name, _, value = line.partition(":")
        kilobytes[name] = float(value.split()[0])
    return Memory(*(kilobytes[name] * 1024 / 1e6 for name in ("Rss", "Pss", "Anonymous")))


def memory(pid: int) -> Memory:
    """Return a process's memory now."""
    return parse_smaps_rollup(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"))


@dataclass(frozen=True, slots=True)
class ThreadTime:
    """A thread's name and the CPU seconds it has used."""

    name: str
    seconds: float


def thread_times(pid: int) -> dict[int, ThreadTime]:
    """Return each thread's CPU time by thread id, to the nanosecond where the kernel keeps it."""
    times: dict[int, ThreadTime] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (task / "comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
            times[int(task.name)] = ThreadTime(name, _seconds(task))
        except FileNotFoundError:
            continue  # the thread has ended since the listing
    return times


def _seconds(task: Path) -> float:
    try:
        return int((task / "schedstat").read_text(encoding="ascii").split()[0]) / 1e9
    except FileNotFoundError:
        return parse_stat_seconds((task / "stat").read_text(encoding="utf-8", errors="replace"))


def parse_stat_seconds(text: str) -> float:
    """Return user and system time of a stat line; the name in it may hold spaces and brackets."""
    fields = text.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def used_since(
    before: dict[int, ThreadTime], after: dict[int, ThreadTime], python_only: bool = False
) -> float:
    """Return the CPU seconds used between two readings, by all threads or by Python's alone.

    Python's are all but the core's: the main thread with the event loop, and the prompt workers.
    """
    used = 0.0
    for thread, time in after.items():
        if not (python_only and time.name in CORE_THREADS):
            used += time.seconds - (before[thread].seconds if thread in before else 0.0)
    return used


def machine_busy_seconds() -> float:
    """Return the CPU seconds that the machine's cores have spent on anything since boot."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
