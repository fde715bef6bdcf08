"""What slots keep and give up, on every kind of memory: the answers stay those of a fresh engine.

Checkpoints (sliding window, recurrent and hybrid states), saved slots, and context shift, by greedy tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_calls import greedy

import pyllama
from pyllama._core import _llama

pytest.importorskip("tiny_models", reason="gguf writes the models: pip install gguf")
from stand_ins import FIRST, HEAD, KINDS, SECOND


@pytest.fixture
def make(start: Callable[..., _llama.Engine]) -> Callable[..., _llama.Engine]:
    return lambda *flags: start("--ctx-size", "256", *flags)


def complete(engine: _llama.Engine, prompt: list[int], **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = greedy(engine, prompt, 8, **fields)
    return answer


def test_a_prompt_that_parts_from_the_cache_goes_on_from_a_checkpoint(
    make: Callable[..., _llama.Engine], kind: str
) -> None:
    fresh = complete(make("--cache-ram", "0"), SECOND)
    engine = make("--cache-ram", "0")
    complete(engine, FIRST, id_slot=0)
    answer = complete(engine, SECOND, id_slot=0)
    assert answer["tokens"] == fresh["tokens"]
    assert answer["timings"]["cache_n"] >= (len(HEAD) if kind == "llama" else 64)
    assert answer["timings"]["cache_n"] + answer["timings"]["prompt_n"] == len(SECOND)


def test_without_checkpoints_it_is_computed_again(make: Callable[..., _llama.Engine], kind: str) -> None:
    engine = make("--cache-ram", "0", "--ctx-checkpoints", "0")
    complete(engine, FIRST, id_slot=0)
    answer = complete(engine, SECOND, id_slot=0)
    # The tiny window's cache is larger than the window: nothing has left it yet.
    has_state = kind in ("mamba", "lfm2")
    assert answer["timings"]["cache_n"] == (0 if has_state else len(HEAD))


def test_a_saved_slot_and_its_checkpoints_come_back(
    make: Callable[..., _llama.Engine], tmp_path: Path, kind: str
) -> None:
    flags = ("--cache-ram", "0", "--slot-save-path", str(tmp_path))
    engine = make(*flags)
    first = complete(engine, FIRST, id_slot=0)
    saved = engine.slot_action(0, "save", b'{"filename":"x"}')
    assert saved["n_saved"] == len(FIRST) + 7
    assert saved["n_written"] == (tmp_path / "x").stat().st_size
    live = complete(engine, SECOND, id_slot=0)
    other = make(*flags)
    restored = other.slot_action(1, "restore", b'{"filename":"x"}')
    assert restored["n_restored"] == saved["n_saved"]
    assert restored["n_read"] == saved["n_written"]
    answer = complete(other, SECOND, id_slot=1)
    assert answer["tokens"] == live["tokens"]
    # What has left a window is not saved.
    assert answer["timings"]["cache_n"] == (80 if kind == "gemma3" else live["timings"]["cache_n"])
    other.slot_action(1, "restore", b'{"filename":"x"}')
    again = complete(other, [*FIRST, *first["tokens"][:7], 5], id_slot=1)
    assert again["timings"]["prompt_n"] == 1


def test_a_slot_of_another_model_is_refused(
    make: Callable[..., _llama.Engine], tmp_path: Path, kind: str
) -> None:
    other = tmp_path / "other.gguf"
    KINDS["llama" if kind != "llama" else "mamba"](other)
    flags = ("--slot-save-path", str(tmp_path))
    engine = make(*flags)
    complete(engine, FIRST, id_slot=0)
    engine.slot_action(0, "save", b'{"filename":"x"}')
    stranger = make("--model", str(other), *flags)
    with pytest.raises(pyllama.InvalidRequestError, match="another model"):
        stranger.slot_action(0, "restore", b'{"filename":"x"}')
    # Nor without what proves it: the file is cut within its state.
    data = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(data[:400])
    with pytest.raises(pyllama.InvalidRequestError, match="Unable to restore slot"):
        engine.slot_action(0, "restore", b'{"filename":"x"}')


def test_the_prompt_cache_gives_back_every_kind(make: Callable[..., _llama.Engine]) -> None:
    fresh = complete(make("--cache-ram", "0"), FIRST)
    engine = make("--cache-ram", "64")
    complete(engine, FIRST, id_slot=0)
    complete(engine, [1, *(20 - i % 13 for i in range(60))], id_slot=0)
    answer = complete(engine, FIRST, id_slot=0)
    assert answer["tokens"] == fresh["tokens"]
    assert answer["timings"]["cache_n"] >= 64


def test_a_full_context_goes_on(
    make: Callable[..., _llama.Engine],
) -> None:
    engine = make("--context-shift", "--keep", "4")
    answer = complete(engine, HEAD, n_predict=200)
    assert answer["truncated"] is True
    assert len(answer["tokens"]) == 200
    assert answer["stop_type"] == "limit"
    # And the next request is served as by a fresh engine.
    assert complete(engine, SECOND)["tokens"] == complete(make(), SECOND)["tokens"]
