"""Choices on memories that the demo model does not have: recurrent, hybrid, with a sliding window.

The tiny models' weights are random and their margins small, so what is compared is what the prompt cost, and
on the recurrent one, which is exact, the tokens.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_models
from engine_calls import greedy

from pyllama._core import _llama

PROMPT = "the in a the thing hinted at"
N_TOKENS = 20


def ask(engine: _llama.Engine, n: int) -> list[list[int]]:
    """Return the token ids of n greedy choices."""
    answer = greedy(engine, PROMPT, N_TOKENS, n=n, cache_prompt=False)
    return [choice["tokens"] for choice in (answer if isinstance(answer, list) else [answer])]


@pytest.mark.parametrize(
    ("kind", "flags", "is_copied"),
    [
        ("mamba", ["--kv-unified"], True),
        ("mamba", ["--no-kv-unified"], True),
        ("lfm2", ["--kv-unified"], True),
        ("lfm2", ["--no-kv-unified"], True),
        ("gemma3", ["--kv-unified"], False),
        ("gemma3", ["--kv-unified", "--swa-full"], True),
        ("gemma3", ["--no-kv-unified"], True),
    ],
)
def test_the_prompt_is_decoded_once_where_it_can_be(
    tmp_path: Path, kind: str, flags: list[str], is_copied: bool
) -> None:
    path = tmp_path / "tiny.gguf"
    getattr(tiny_models, f"write_{kind}")(path)
    params = _llama.ServerParams(
        ["--model", str(path), "--parallel", "4", "--ctx-size", "512", "--threads", "1", *flags]
    )
    engine = _llama.Engine(params)
    try:
        (alone,) = ask(engine, 1)
        n_prompt = engine.metrics()["prompt_tokens"]
        choices = ask(engine, 4)
        assert engine.metrics()["prompt_tokens"] - n_prompt == n_prompt * (1 if is_copied else 4)
        assert [len(choice) for choice in choices] == [N_TOKENS] * 4
        if kind == "mamba":
            assert choices == [alone] * 4
    finally:
        engine.close()
