"""Requests that begin alike answer as if each were alone: on every kind of memory, shared or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from engine_calls import greedy

from pyllama import Engine
from pyllama._core import _llama

pytest.importorskip("tiny_models", reason="gguf writes the models: pip install gguf")
from stand_ins import FIRST, HEAD, SECOND

SYSTEM = "You are a calculator. You add two numbers and say nothing else. " * 6


@pytest.fixture
def make(start: Callable[..., _llama.Engine]) -> Callable[..., _llama.Engine]:
    always = "--ctx-size 512 --kv-unified --cache-ram 0".split()
    return lambda *flags: start(*always, *flags)


def complete(engine: _llama.Engine, prompt: list[int], id_slot: int, n: int = 8) -> dict[str, Any]:
    answer: dict[str, Any] = greedy(engine, prompt, n, id_slot=id_slot)
    return answer


@pytest.mark.parametrize(
    "flags", [(), ("--swa-full",), ("--share-prefixes", "0")], ids=["on", "swa-full", "off"]
)
def test_a_prefix_of_another_slot_changes_no_token(
    make: Callable[..., _llama.Engine], kind: str, flags: tuple[str, ...]
) -> None:
    fresh = complete(make(), SECOND, 0)
    engine = make(*flags)
    first = complete(engine, FIRST, 0)
    second = complete(engine, SECOND, 1)
    assert second["tokens"] == fresh["tokens"]
    timings = second["timings"]
    assert timings["cache_n"] + timings["prompt_n"] == len(SECOND)
    if "--share-prefixes" in flags or kind == "gemma3":
        assert timings["cache_n"] == 0
    else:
        # States go on from a checkpoint of the other sequence.
        assert timings["cache_n"] == len(HEAD) if kind == "llama" else timings["cache_n"] >= 64
        assert engine.slots()[1]["prefix"] == {
            "n_tokens": timings["cache_n"],
            "source": "shared",
            "id_slot": 0,
        }
    # Who lent it has lost nothing.
    again = complete(engine, FIRST, 0)
    assert again["tokens"] == first["tokens"]
    assert again["timings"]["cache_n"] >= 64


def test_what_is_not_whole_is_computed_from_zero(make: Callable[..., _llama.Engine], kind: str) -> None:
    engine = make("--ctx-checkpoints", "0")
    fresh = complete(make(), SECOND, 0)
    complete(engine, FIRST, 0)
    before = engine.metrics()["prefix_refused"]
    answer = complete(engine, SECOND, 0)
    has_states = kind in ("mamba", "lfm2")
    assert engine.metrics()["prefix_refused"] - before == (1 if has_states else 0)
    assert answer["timings"]["cache_n"] == (0 if has_states else len(HEAD))
    assert answer["tokens"] == fresh["tokens"]


@pytest.mark.parametrize("kind", ["gemma3"], indirect=True)
def test_a_window_that_is_gone_is_noticed(make: Callable[..., _llama.Engine]) -> None:
    fresh = complete(make(), SECOND, 0)
    engine = make("--ctx-checkpoints", "0", "--parallel", "3")
    complete(engine, FIRST, 0, 40)
    # The window's cache has 256 cells: others' tokens take those that have left the first one's window.
    for slot in (1, 2):
        complete(engine, [1, *(4 + (slot + 7 * i) % 20 for i in range(110))], slot)
    before = engine.metrics()["prefix_refused"]
    answer = complete(engine, SECOND, 0)
    assert engine.metrics()["prefix_refused"] - before == 1
    assert answer["timings"]["cache_n"] == 0
    assert answer["tokens"] == fresh["tokens"]


@pytest.mark.anyio
async def test_a_shared_system_prompt_changes_no_answer() -> None:
    answers: list[list[list[int]]] = []
    for share in (1, 0):
        flags = {"n_ctx": 4096, "n_parallel": 6, "n_threads": 1, "kv_unified": True, "share_prefixes": share}
        async with Engine(**flags) as engine:

            async def ask(n: int, engine: Engine = engine) -> list[int]:
                messages = [
                    {"role": "system", "content": SYSTEM},
                    {"role": "user", "content": f"What is {n} + {3 * n}?"},
                ]
                fields = {"temperature": 0, "max_tokens": 40, "logprobs": True, "top_logprobs": 1}
                async with await engine.chat(messages, **fields) as stream:
                    return [entry.id for entry in (await stream.result()).logprobs]

            answers.append(await asyncio.gather(*(ask(n) for n in range(10, 16))))
            assert (engine.metrics()["shared_tokens"] > 0) == bool(share)
    assert answers[0] == answers[1]
