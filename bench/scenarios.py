"""What is measured: groups of workloads, each group on one start of each server."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from bench.client import asking
from bench.goals import (
    ARRIVAL,
    BURST,
    DETAILS,
    FRAMES,
    OVERHEAD_DEFAULT,
    OVERHEAD_GREEDY,
    RATE,
    TTFT,
    WARM_BURST,
    Figure,
    Goal,
    at_least,
    streaming,
)
from bench.workloads import Arrival, Depth, Plain, Whole, Workload
from pyllama.loadtest import Load
from pyllama.loadtest.words import random_words

# A load before the measured ones, so that buffers are allocated and the model's pages are mapped.
WARM_UP = Load(asking(8, prompt_words=48, seed=999), users=2)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One workload, the name of its rows in the table, and what they show."""

    name: str
    title: str
    workload: Workload
    figures: tuple[Figure, ...] = (RATE, *DETAILS)


@dataclass(frozen=True, slots=True)
class Raw:
    """llama-bench beside the servers: bare decoding of `n_tokens` behind `depth` tokens."""

    depth: int
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Group:
    """Scenarios that run on one start of a server.

    Attributes:
        kv_modes: -kvu (True) or -no-kvu (False); with both, each server counts in its better one.
        rounds: How many times each server is started.
        memory: Whether the table shows the servers' memory.
    """

    name: str
    model: str
    scenarios: tuple[Scenario, ...]
    parallel: int = 32
    context: int = 16384
    kv_modes: tuple[bool, ...] = (False,)
    rounds: int = 3
    raw: Raw | None = None
    memory: bool = False


def load(users: int, max_tokens: int, turns: int = 1, pause_s: float = 0.0, **ask: Any) -> Plain:
    """Return a load of users with `turns` requests each; `ask` are Ask's own fields."""
    return Plain(Load(asking(max_tokens, **ask), users=users, requests=users * turns, pause_s=pause_s))


REAL = Group(
    "real",
    "qwen3-0.6b",
    (
        Scenario("ttft", "idle server", load(1, 4, 6, 0.3, prompt_words=16), (TTFT,)),
        Scenario("single", "single stream", load(1, 64, 2, prompt_words=16)),
        Scenario("users8", "8 users", load(8, 64, prompt_words=16)),
        Scenario("users32", "32 users", load(32, 64, prompt_words=16), (RATE, *DETAILS, *streaming(True))),
    ),
    memory=True,
)

SMALL = Group(
    "small",
    "small",
    (
        Scenario("ttft", "idle server", load(1, 4, 15, 0.1, prompt_words=16), (TTFT,)),
        Scenario("single", "single stream", load(1, 256, 2, prompt_words=16)),
        Scenario("users8", "8 users", load(8, 128, 2, prompt_words=16)),
        Scenario(
            "users32",
            "32 users",
            load(32, 128, 2, prompt_words=16),
            (replace(RATE, goal=at_least(1.2)), *DETAILS, *streaming(False)),
        ),
    ),
)

DEMO = Group(
    "demo",
    "demo",
    (
        Scenario("ttft", "idle server", load(1, 4, 15, 0.1, prompt_words=8), (TTFT,)),
        Scenario("single", "single stream", load(1, 256, 2, prompt_words=8)),
        Scenario(
            "users32", "32 users", load(32, 128, 2, prompt_words=8), (RATE, *DETAILS, *streaming(False))
        ),
    ),
    rounds=2,
)

LONG = Group(
    "long",
    "medium",
    (Scenario("long", "32 users x 1,000 unshared tokens", load(32, 64, prompt_words=1000)),),
    context=32 * 1280,
    kv_modes=(True, False),
    rounds=2,
)

SHARED = Group(
    "shared",
    "medium",
    (
        Scenario(
            "shared",
            "32 users x 1,000 shared + 32 own tokens",
            load(32, 32, 2, prompt_words=1032, shared_words=1000),
        ),
    ),
    context=32 * 1280,
    kv_modes=(True, False),
    rounds=2,
)


def coming_and_going(users: int, turns: int) -> Plain:
    """Return a load of users with answers of 16 to 111 tokens, which begin and end at any time."""
    asked = tuple(
        {
            "messages": [{"role": "user", "content": random_words(64, f"turnover/{i}")}],
            "max_tokens": 16 + 37 * i % 96,
        }
        for i in range(users * turns)
    )
    return load(users, 64, turns, prompts=asked)


TURNOVER = Group(
    "turnover",
    "qwen3-0.6b",
    (Scenario("turnover", "6 users who come and go on 32 slots", coming_and_going(6, 8)),),
    rounds=2,
)

_BURST = load(8, 64, system_words=1500, prompt_words=40)
PREFIX = Group(
    "prefix",
    "qwen3-0.6b",
    (
        Scenario("cold", "8 users at once, 1,500 shared tokens, cold", _BURST, BURST),
        Scenario(
            "warm", "the same 8 users again, other tails, warm", replace(_BURST, again=True), WARM_BURST
        ),
    ),
    parallel=8,
    kv_modes=(True,),
)

GAP = Group(
    "gap",
    "qwen3-0.6b",
    (Scenario("gap", "4,000 tokens arrive beside 4 streams", Arrival(), ARRIVAL),),
    parallel=8,
    context=24576,
    kv_modes=(True,),
)

FULL = Group(
    "full",
    "qwen3-0.6b",
    (
        Scenario(
            "full",
            "8 requests of 1,024 tokens in a cache of 4,096",
            replace(load(8, 512, prompt_words=500), whole=False),
            (
                Figure("finished", "finished", "of 8", "higher", Goal("≥", 8, "ours")),
                Figure("completion_tokens", "tokens of whole answers", ""),
                Figure("seconds", "makespan", "s"),
            ),
        ),
    ),
    parallel=8,
    context=4096,
    kv_modes=(True,),
    rounds=1,
)

_GREEDY = load(1, 256, 3, prompt_words=500)
_DEFAULT = Plain(replace(_GREEDY.load, ask=replace(_GREEDY.load.ask, fields={"ignore_eos": True})))
OVERHEAD = Group(
    "overhead",
    "small",
    (
        Scenario("greedy", "a token over bare decoding, streamed, greedy", _GREEDY, (OVERHEAD_GREEDY,)),
        Scenario("default", "the same with the default samplers, streamed", _DEFAULT, (OVERHEAD_DEFAULT,)),
        Scenario("whole", "the same in one piece, greedy", Whole(_GREEDY.load.ask), (OVERHEAD_GREEDY,)),
        Scenario(
            "whole-default",
            "the same in one piece with the default samplers",
            Whole(_DEFAULT.load.ask),
            (OVERHEAD_DEFAULT,),
        ),
    ),
    parallel=1,
    context=4096,
    rounds=5,
    raw=Raw(depth=512, n_tokens=256),
)

DEPTH = Group(
    "depth",
    "small",
    (Scenario("depth", "one answer of 30,000 tokens", Depth(), FRAMES),),
    parallel=1,
    context=32768,
    rounds=1,
)

# Starting alone; the page cache is warm from the first round, which is not counted.
START = Group("start", "qwen3-0.6b", (), rounds=5)

GROUPS: dict[str, Group] = {
    group.name: group
    for group in (START, REAL, SMALL, DEMO, TURNOVER, LONG, SHARED, PREFIX, GAP, FULL, OVERHEAD, DEPTH)
}
DEFAULT_GROUPS = ("start", "real", "small", "turnover", "long", "prefix", "gap", "full", "overhead", "depth")


def shortened(group: Group) -> Group:
    """Return a group for a quick look: one round, a quarter of the tokens."""
    scenarios = tuple(
        replace(scenario, workload=scenario.workload.shortened()) for scenario in group.scenarios
    )
    return replace(group, scenarios=scenarios, rounds=2 if group.name == "start" else 1)
