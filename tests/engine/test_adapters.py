"""LoRA adapters and control vectors by flags and by requests, on a tiny model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from engine_calls import greedy
from tiny_models import N_EMBD, write_llama, write_lora

import pyllama
from pyllama._core import _llama

PROMPT = [1, *(4 + i % 20 for i in range(30))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    write_llama(folder / "model.gguf")
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in ("blk.0.attn_output", "blk.1.attn_output"):
        shapes |= {f"{layer}.weight.lora_a": (4, N_EMBD), f"{layer}.weight.lora_b": (N_EMBD, 4)}
    write_lora(folder / "lora.gguf", "llama", shapes, meta={"adapter.lora.task_name": "noise"})
    write_lora(folder / "alora.gguf", "llama", shapes, invocation_tokens=[5, 6])
    return folder


def write_vector(path: Path, n_embd: int = N_EMBD, layers: tuple[int, ...] = (1,)) -> None:
    writer = gguf.GGUFWriter(path, "controlvector")
    for layer in layers:
        values = np.random.default_rng(layer).standard_normal(n_embd).astype(np.float32)
        writer.add_tensor(f"direction.{layer}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def make(folder: Path) -> Iterator[Callable[..., _llama.Engine]]:
    engines: list[_llama.Engine] = []

    def make(*flags: str) -> _llama.Engine:
        always = ["--model", str(folder / "model.gguf"), "--threads", "1", "--parallel", "2", "-c", "256"]
        engines.append(_llama.Engine(_llama.ServerParams([*always, *flags])))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()


def complete(engine: _llama.Engine, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = greedy(engine, PROMPT, 12, **fields)
    return answer


def test_flags_requests_and_hot_scales_mean_the_same(
    make: Callable[..., _llama.Engine], folder: Path
) -> None:
    path = str(folder / "lora.gguf")
    plain = complete(make())["tokens"]
    full = make("--lora", path)
    adapted = complete(full)["tokens"]
    assert adapted != plain
    assert complete(full, lora=[{"id": 0, "scale": 0}])["tokens"] == plain
    half = complete(full, lora=[{"id": 0, "scale": 0.5}])
    assert half["generation_settings"]["lora"] == [{"id": 0, "scale": 0.5}]
    assert complete(make("--lora-scaled", f"{path}:0.5"))["tokens"] == half["tokens"]
    unapplied = make("--lora", path, "--lora-init-without-apply")
    assert unapplied.lora_adapters() == [
        {"id": 0, "path": path, "scale": 0.0, "task_name": "noise", "prompt_prefix": ""}
    ]
    assert complete(unapplied)["tokens"] == plain
    unapplied.set_lora_adapters(b'[{"id":0,"scale":1}]')
    assert unapplied.lora_adapters()[0]["scale"] == 1
    assert complete(unapplied)["tokens"] == adapted
    unapplied.set_lora_adapters(b"[]")
    assert complete(unapplied)["tokens"] == plain


def test_adapters_that_cannot_be_used_stop_the_load(make: Callable[..., _llama.Engine], folder: Path) -> None:
    with pytest.raises(pyllama.ModelLoadError, match="activated LoRA"):
        make("--lora", str(folder / "alora.gguf"))
    with pytest.raises(pyllama.ModelLoadError, match="LoRA"):
        make("--lora", str(folder / "model.gguf"))


def test_adapters_are_there_after_a_sleep(make: Callable[..., _llama.Engine], folder: Path) -> None:
    engine = make("--lora", str(folder / "lora.gguf"), "--sleep-idle-seconds", "1")
    adapted = complete(engine)["tokens"]
    while not engine.sleeping:
        pass
    assert complete(engine)["tokens"] == adapted


def test_a_slot_keeps_the_adapters_that_it_was_saved_with(
    make: Callable[..., _llama.Engine], folder: Path, tmp_path: Path
) -> None:
    flags = ("--lora", str(folder / "lora.gguf"), "--slot-save-path", str(tmp_path), "--cache-ram", "0")
    engine = make(*flags)
    complete(engine, id_slot=0, lora=[{"id": 0, "scale": 0.5}])
    engine.slot_action(0, "save", b'{"filename":"x"}')
    other = make(*flags)
    other.slot_action(0, "restore", b'{"filename":"x"}')
    # Not for the scales of the flags, but for those it was made with.
    assert complete(other, id_slot=0)["timings"]["cache_n"] == 0
    other.slot_action(0, "restore", b'{"filename":"x"}')
    assert complete(other, id_slot=0, lora=[{"id": 0, "scale": 0.5}])["timings"]["cache_n"] > 0
    with pytest.raises(pyllama.InvalidRequestError, match="another model, or to other flags"):
        make("--slot-save-path", str(tmp_path)).slot_action(0, "restore", b'{"filename":"x"}')


def test_control_vectors_steer(make: Callable[..., _llama.Engine], tmp_path: Path) -> None:
    write_vector(tmp_path / "v.gguf")
    plain = complete(make())["tokens"]
    assert complete(make("--control-vector", str(tmp_path / "v.gguf")))["tokens"] != plain
    none = make("--control-vector-scaled", f"{tmp_path / 'v.gguf'}:0")
    assert complete(none)["tokens"] == plain
    other_layers = make(
        "--control-vector", str(tmp_path / "v.gguf"), "--control-vector-layer-range", "2", "2"
    )
    assert complete(other_layers)["tokens"] == plain


def test_control_vectors_of_other_models_stop_the_load(
    make: Callable[..., _llama.Engine], folder: Path, tmp_path: Path
) -> None:
    write_vector(tmp_path / "v.gguf", n_embd=16)
    with pytest.raises(pyllama.ModelLoadError, match="16 numbers"):
        make("--control-vector", str(tmp_path / "v.gguf"))
    with pytest.raises(pyllama.ModelLoadError, match="control vector"):
        make("--control-vector", str(folder / "lora.gguf"))
