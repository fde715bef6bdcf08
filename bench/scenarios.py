"""What is measured: groups of loads, each group on one start of each server."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.load import Load

# A load before the measured ones, so that buffers are allocated and the model's pages are mapped.
WARM_UP = Load(users=2, prompt_words=48, max_tokens=8, seed=999)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load and the name of its row in the table."""

    name: str
    title: str
    load: Load


@dataclass(frozen=True, slots=True)
class Group:
    """Scenarios that run on one start of a server.

    Attributes:
        kv_modes: -kvu (True) or -no-kvu (False); with both, each server counts in its better one.
        rounds: How many times each server is started.
    """

    name: str
    model: str
    scenarios: tuple[Scenario, ...]
    parallel: int = 32
    context: int = 16384
    kv_modes: tuple[bool, ...] = (False,)
    rounds: int = 3


REAL = Group(
    "real",
    "qwen3-0.6b",
    (
        Scenario("ttft", "idle server", Load(requests=6, prompt_words=16, max_tokens=4, pause_s=0.3)),
        Scenario("single", "single stream", Load(requests=2, prompt_words=16, max_tokens=64)),
        Scenario("users8", "8 users", Load(users=8, prompt_words=16, max_tokens=64)),
        Scenario("users32", "32 users", Load(users=32, prompt_words=16, max_tokens=64)),
    ),
)

SMALL = Group(
    "small",
    "small",
    (
        Scenario("ttft", "idle server", Load(requests=15, prompt_words=16, max_tokens=4, pause_s=0.1)),
        Scenario("single", "single stream", Load(requests=2, prompt_words=16, max_tokens=256)),
        Scenario("users8", "8 users", Load(users=8, requests=2, prompt_words=16, max_tokens=128)),
        Scenario("users32", "32 users", Load(users=32, requests=2, prompt_words=16, max_tokens=128)),
    ),
)

DEMO = Group(
    "demo",
    "demo",
    (
        Scenario("ttft", "idle server", Load(requests=15, prompt_words=8, max_tokens=4, pause_s=0.1)),
        Scenario("single", "single stream", Load(requests=2, prompt_words=8, max_tokens=256)),
        Scenario("users32", "32 users", Load(users=32, requests=2, prompt_words=8, max_tokens=128)),
    ),
    rounds=2,
)

LONG = Group(
    "long",
    "medium",
    (Scenario("long", "32 users x 1,000 unshared tokens", Load(users=32, prompt_words=1000, max_tokens=64)),),
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
            Load(users=32, requests=2, prompt_words=1032, shared_words=1000, max_tokens=32),
        ),
    ),
    context=32 * 1280,
    kv_modes=(True, False),
    rounds=2,
)

# Starting alone; the page cache is warm from the first round, which is not counted.
START = Group("start", "qwen3-0.6b", (), rounds=5)

GROUPS: dict[str, Group] = {group.name: group for group in (REAL, SMALL, DEMO, LONG, SHARED, START)}
DEFAULT_GROUPS = ("start", "real", "small", "long")


def shortened(group: Group) -> Group:
    """Return a group for a quick look: one round, a quarter of the tokens."""
    scenarios = tuple(
        replace(
            scenario,
            load=replace(
                scenario.load,
                requests=max(1, scenario.load.requests // 3),
                max_tokens=max(4, scenario.load.max_tokens // 4),
            ),
        )
        for scenario in group.scenarios
    )
    return replace(group, scenarios=scenarios, rounds=2 if group.name == "start" else 1)
