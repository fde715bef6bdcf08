"""Whatever was shared, parked, rolled back or kept in host memory: the logits are those of a plain decode.

The stand-ins' weights are random, so their tokens have no margins: rounding alone changes which is chosen.
So the reference is forced along the engine's own tokens, and whole rows are compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pyllama._core import _llama

pytest.importorskip("tiny_models", reason="gguf writes the models: pip install gguf")
from stand_ins import FIRST, HEAD, SECOND
from tiny_models import N_VOCAB

# Of log probabilities: a batch of another shape rounds differently. With keys and values as f16 that is 0.02.
TOLERANCE = 1e-3
F32 = "--cache-type-k f32 --cache-type-v f32 --flash-attn off".split()
N_TOKENS = 12

Answer = tuple[list[int], dict[str, Any]]


def ask_all(engine: _llama.Engine, prompts: Sequence[list[int]], **fields: Any) -> list[Answer]:
    """Submit them together; return each with its answer."""
    waker = _llama.Waker()
    with closing(waker), ExitStack() as open_streams:
        streams = []
        for key, prompt in enumerate(prompts, 1):
            body = {"prompt": prompt, "n_predict": N_TOKENS, "temperature": 0, "n_probs": N_VOCAB}
            body |= {"return_tokens": True, "ignore_eos": True} | fields
            streams.append(engine.submit(engine.prepare_completion(json.dumps(body).encode()), waker, key))
            open_streams.callback(streams[-1].cancel)
        while any(stream.state != "finished" for stream in streams):
            waker.wait()
            waker.drain()
        return [(prompt, json.loads(s.read(0)[0])) for prompt, s in zip(prompts, streams, strict=True)]


def rows_of(answer: dict[str, Any]) -> npt.NDArray[np.float64]:
    """Return the log probabilities of every token at each of the answer's."""
    rows = np.full((len(answer["tokens"]), N_VOCAB), np.nan)
    for row, entry in zip(rows, answer["completion_probabilities"], strict=True):
        for each in entry["top_logprobs"]:
            row[each["id"]] = each["logprob"]
    return rows


def forced_rows(model: _llama.Model, prompt: list[int], answer: list[int]) -> npt.NDArray[np.float64]:
    tokens = [*prompt, *answer[:-1]]
    with _llama.Context(
        model, n_ctx=256, n_threads=1, n_outputs_max=256, type_k="f32", type_v="f32", flash_attn=False
    ) as context:
        batch = _llama.Batch(len(tokens))
        for pos, token in enumerate(tokens):
            batch.add(token, pos, 0, logits=pos >= len(prompt) - 1)
        context.decode(batch)
        logits = context.logits_all().astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    rows: npt.NDArray[np.float64] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return rows


@pytest.fixture
def check(path: Path) -> Callable[[Sequence[Answer]], None]:
    """Hold answers against the plain decode."""

    def check(answers: Sequence[Answer]) -> None:
        with _llama.Model(str(path)) as model:
            for prompt, answer in answers:
                assert len(answer["tokens"]) >= N_TOKENS
                expected = forced_rows(model, prompt, answer["tokens"])
                np.testing.assert_allclose(rows_of(answer), expected, rtol=0, atol=TOLERANCE)

    return check


Start = Callable[..., _llama.Engine]
Check = Callable[[Sequence[Answer]], None]


@pytest.mark.parametrize("share", ["1", "0"])
def test_sharing(start: Start, check: Check, kind: str, share: str) -> None:
    engine = start(*F32, "--ctx-size", "512", "--kv-unified", "--cache-ram", "0", "--share-prefixes", share)
    answers = ask_all(engine, [FIRST], id_slot=0)
    answers += ask_all(engine, [SECOND], id_slot=1)
    answers += ask_all(engine, [[*HEAD, 7, 7, 7], [*HEAD, 11, 12]])
    check(answers)
    assert (engine.metrics()["shared_tokens"] > 0) == (share == "1" and kind != "gemma3")


@pytest.mark.parametrize("n_checkpoints", ["32", "0"])
def test_checkpoints(start: Start, check: Check, n_checkpoints: str) -> None:
    engine = start(*F32, "--ctx-size", "512", "--cache-ram", "0", "--ctx-checkpoints", n_checkpoints)
    check([*ask_all(engine, [FIRST], id_slot=0), *ask_all(engine, [SECOND], id_slot=0)])
    assert engine.metrics()["checkpoint_bytes"] == 0 or n_checkpoints != "0"


@pytest.mark.parametrize("cache_ram", ["0", "64"])
def test_parking(start: Start, check: Check, kind: str, cache_ram: str) -> None:
    flags = [*F32, "--ctx-size", "256", "--parallel", "4", "--kv-unified", "--cache-ram", cache_ram]
    engine = start(*flags)
    prompts = [[1, *(4 + (7 * i + n) % 29 for i in range(58 + n))] for n in range(6)]
    check(ask_all(engine, prompts, n_predict=40))
    # Recurrent states have a cell for each sequence, so that nobody has to go.
    assert engine.metrics()["requests_parked"] > 0 or kind == "mamba"
    assert engine.metrics()["parked_bytes"] == 0


def test_a_tight_budget(start: Start, check: Check) -> None:
    engine = start(*F32, "--ctx-size", "256", "--kv-unified", "--host-memory", "1")
    prompts = [[1, *(4 + (i * (n + 3) + n) % 29 for i in range(100))] for n in range(30)]
    answers: list[Answer] = []
    for tail in ([5, 6, 7], [7, 6, 5]):
        for prompt in prompts:
            answers += ask_all(engine, [[*prompt, *tail]])
        prompts.reverse()
    check(answers)
    metrics = engine.metrics()
    assert metrics["memory_limit_bytes"] == 1 << 20
    assert metrics["memory_bytes"] == sum(
        metrics[part] for part in ("stream_bytes", "cache_bytes", "checkpoint_bytes", "parked_bytes")
    )
    assert metrics["cache_bytes"] > 0
