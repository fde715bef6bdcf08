"""Requests that begin alike answer as if each were alone: on every kind of memory, shared or not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pyllama import Engine
from pyllama._core import _llama

tiny_models = pytest.importorskip("tiny_models", reason="gguf writes the models: pip install gguf")

KINDS: dict[str, Callable[[Path], None]] = {
    "llama": tiny_models.write_llama,
    "gemma3": tiny_models.write_gemma3,
    "mamba": tiny_models.write_mamba,
    "lfm2": tiny_models.write_lfm2,
}
HEAD = [1, *(4 + i % 20 for i in range(80))]
FIRST = [*HEAD, 5, 6, 7, 8, 9]
SECOND = [*HEAD, 9, 8, 7, 6, 5]

SYSTEM = "You are a calculator. You add two numbers and say nothing else. " * 6


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(kind: str, tmp_path: Path) -> Iterator[Callable[..., _llama.Engine]]:
    path = tmp_path / f"{kind}.gguf"
    KINDS[kind](path)
    engines: list[_llama.Engine] = []

    def make(*flags: str) -> _llama.Engine:
        always = "--threads 1 --ubatch-size 16 --parallel 2 --ctx-size 512 --kv-unified --cache-ram 0"
        engines.append(_llama.Engine(_llama.ServerParams(["--model", str(path), *always.split(), *flags])))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def complete(engine: _llama.Engine, prompt: list[int], id_slot: int, n: int = 8) -> dict[str, Any]:
    body = {"prompt": prompt, "id_slot": id_slot, "n_predict": n, "temperature": 0, "ignore_eos": True}
    waker = _llama.Waker()
    with closing(waker):
        request = engine.prepare_completion(json.dumps(body | {"return_tokens": True}).encode())
        stream = engine.submit(request, waker, 1)
        while stream.state != "finished":
            waker.wait()
            waker.drain()
    answer: dict[str, Any] = json.loads(stream.read(0)[0])
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
