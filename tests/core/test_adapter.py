from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import pyllama
from pyllama import Batch, Context, LoraAdapter, Model, ModelLoadError

TEXT = [5, 9, 14, 20]
QUERY = {"blk.0.attn_q.weight.lora_a": (4, 32), "blk.0.attn_q.weight.lora_b": (32, 4)}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    tiny_models = pytest.importorskip("tiny_models", reason="gguf writes the adapters: pip install gguf")
    n_written = 0

    def lora(shapes: dict[str, tuple[int, ...]], architecture: str = "llama", **options: object) -> Path:
        nonlocal n_written
        n_written += 1
        path = tmp_path / f"lora-{n_written}.gguf"
        tiny_models.write_lora(path, architecture, shapes, **options)
        return path

    return lora


def logits(context: Context, prefill: Callable[..., Batch]) -> np.ndarray:
    context.memory.clear()
    prefill(context, TEXT)
    return context.logits()


def test_an_adapter_changes_the_answer_by_its_scale(
    tiny: Callable[..., Context], write: Callable[..., Path], prefill: Callable[..., Batch]
) -> None:
    context = tiny("llama")
    plain = logits(context, prefill)
    with LoraAdapter(context.model, write(QUERY)) as adapter:
        context.set_adapters({adapter: 1.0})
        assert context.adapters == {adapter: 1.0}
        whole = logits(context, prefill)
        context.set_adapters({adapter: 0.0})
        np.testing.assert_allclose(logits(context, prefill), plain, rtol=0, atol=1e-5)
        context.set_adapters({adapter: 1.0})
        np.testing.assert_allclose(logits(context, prefill), whole, rtol=0, atol=1e-5)
        context.set_adapters({})
        np.testing.assert_allclose(logits(context, prefill), plain, rtol=0, atol=1e-5)
    assert np.abs(whole - plain).max() > 0.01


def test_two_adapters_add_up(
    tiny: Callable[..., Context], write: Callable[..., Path], prefill: Callable[..., Batch]
) -> None:
    context = tiny("llama")
    path = write(QUERY)
    with LoraAdapter(context.model, path) as one, LoraAdapter(context.model, path) as other:
        context.set_adapters({one: 1.0})
        whole = logits(context, prefill)
        context.set_adapters({one: 0.25, other: 0.75})
        np.testing.assert_allclose(logits(context, prefill), whole, rtol=0, atol=1e-3)
        context.set_adapters({})


def test_an_adapter_describes_itself(tiny: Callable[..., Context], write: Callable[..., Path]) -> None:
    model = tiny("llama").model
    with LoraAdapter(model, write(QUERY, invocation_tokens=[3, 4], meta={"general.name": "x"})) as adapter:
        assert adapter.meta["general.name"] == "x"
        assert adapter.meta["adapter.type"] == "lora"
        assert adapter.invocation_tokens.tolist() == [3, 4]
        assert adapter.invocation_tokens.dtype == np.int32
        assert adapter.model is model
        assert not adapter.closed
    with pytest.raises(pyllama.ClosedError):
        _ = adapter.meta
    with LoraAdapter(model, write(QUERY)) as adapter:
        assert adapter.invocation_tokens.shape == (0,)


def test_what_uses_an_adapter_keeps_it_open(tiny: Callable[..., Context], write: Callable[..., Path]) -> None:
    context = tiny("llama")
    adapter = LoraAdapter(context.model, write(QUERY))
    context.set_adapters({adapter: 1.0})
    with pytest.raises(pyllama.InvalidRequestError, match=r"still used by <pyllama\.Context"):
        adapter.close()
    context.close()
    with pytest.raises(pyllama.InvalidRequestError, match=r"still used by <pyllama\.LoraAdapter"):
        context.model.close()
    adapter.close()
    adapter.close()
    assert adapter.closed


def test_bad_adapters_and_scales_are_named(
    tiny: Callable[..., Context], write: Callable[..., Path], tiny_files: Callable[[str], Path]
) -> None:
    context = tiny("llama")
    with LoraAdapter(context.model, write(QUERY)) as adapter:
        for scale in (float("nan"), float("inf"), 1e9):
            with pytest.raises(pyllama.InvalidRequestError, match="scale="):
                context.set_adapters({adapter: scale})
        with pytest.raises(TypeError, match="LoraAdapter"):
            context.set_adapters({"adapter": 1.0})
        assert context.adapters == {}
        with (
            Model(tiny_files("llama"), n_gpu_layers=0) as other,
            Context(other, n_ctx=64, n_threads=1) as stranger,
            pytest.raises(pyllama.InvalidRequestError, match="was loaded for"),
        ):
            stranger.set_adapters({adapter: 1.0})
    with pytest.raises(pyllama.ClosedError):
        context.set_adapters({adapter: 1.0})


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, "no LoRA matrices"),
        ({"blk.0.attn_q.weight.lora_a": (4, 32)}, "only one of its two"),
        (
            {"blk.0.attn_q.weight.lora_a": (4, 32), "blk.0.attn_q.weight.lora_b": (32, 5)},
            "another shape than the model's",
        ),
        (
            {"blk.0.attn_q.weight.lora_a": (3, 4, 32), "blk.0.attn_q.weight.lora_b": (3, 32, 4)},
            "another shape than the model's",
        ),
        (
            {"blk.0.attn_q.weight.lora_a": (4, 16), "blk.0.attn_q.weight.lora_b": (32, 4)},
            "incorrect shape",
        ),
        (
            {"token_embd.weight.lora_a": (64, 4), "token_embd.weight.lora_b": (32, 5)},
            "another shape than the model's",
        ),
        ({"blk.9.ffn_up.weight.lora_a": (4, 32), "blk.9.ffn_up.weight.lora_b": (64, 4)}, "no tensor 'blk.9"),
        ({**QUERY, "extra": (3, 3)}, "unexpected suffix"),
    ],
)
def test_an_adapter_that_does_not_fit(
    tiny: Callable[..., Context],
    write: Callable[..., Path],
    shapes: dict[str, tuple[int, ...]],
    message: str,
) -> None:
    """Some of these end the process when llama.cpp is left to find out."""
    with pytest.raises(ModelLoadError, match=message):
        LoraAdapter(tiny("llama").model, write(shapes))


def test_tied_embeddings_are_not_adapted(tiny: Callable[..., Context], write: Callable[..., Path]) -> None:
    shapes = {"token_embd.weight.lora_a": (64, 4), "token_embd.weight.lora_b": (32, 4)}
    with pytest.raises(ModelLoadError, match="also this model's output"):
        LoraAdapter(tiny("gemma3").model, write(shapes, "gemma3"))
    with LoraAdapter(tiny("llama").model, write(shapes)) as adapter:
        assert not adapter.closed


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"general.type": 3}, r"general\.type must be a str"),
        ({"adapter.type": 3}, r"adapter\.type must be a str"),
        ({"adapter.lora.alpha": "x"}, r"adapter\.lora\.alpha must be a f32"),
        ({"adapter.type": "ia3"}, "adapter.type"),
        ({"general.type": "model"}, "general.type"),
    ],
)
def test_metadata_of_the_wrong_kind(
    tiny: Callable[..., Context], write: Callable[..., Path], meta: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelLoadError, match=message):
        LoraAdapter(tiny("llama").model, write(QUERY, meta=meta))


def test_files_that_are_no_adapter(
    tiny: Callable[..., Context],
    write: Callable[..., Path],
    tiny_files: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    model = tiny("llama").model
    whole = write(QUERY).read_bytes()
    path = tmp_path / "cut.gguf"
    for n in range(0, len(whole), 61):
        path.write_bytes(whole[:n])
        with pytest.raises(ModelLoadError):
            LoraAdapter(model, path)
    with pytest.raises(ModelLoadError, match="No such file"):
        LoraAdapter(model, tmp_path / "missing.gguf")
    with pytest.raises(ModelLoadError, match="no LoRA matrices"):
        LoraAdapter(tiny("mamba").model, tiny_files("mamba"))
    with pytest.raises(ModelLoadError, match="arch mismatch"):
        LoraAdapter(model, write(QUERY, "mamba"))
    with (
        Model(tiny_files("llama"), vocab_only=True) as words,
        pytest.raises(pyllama.InvalidRequestError, match="vocab_only"),
    ):
        LoraAdapter(words, path)


def test_a_control_vector_steers_the_layers_it_names(
    tiny: Callable[..., Context], prefill: Callable[..., Batch]
) -> None:
    context = tiny("gemma3")
    plain = logits(context, prefill)
    data = np.random.default_rng(1).standard_normal((context.model.n_layer - 1, context.model.n_embd))
    context.set_control_vector(data)
    all_layers = logits(context, prefill)
    context.set_control_vector(data, (2, 3))
    two_layers = logits(context, prefill)
    context.set_control_vector(None)
    np.testing.assert_allclose(logits(context, prefill), plain, rtol=0, atol=1e-5)
    assert np.abs(all_layers - plain).max() > 0.01
    assert np.abs(two_layers - plain).max() > 0.01
    assert np.abs(two_layers - all_layers).max() > 0.01


def test_control_vectors_of_another_size_are_refused(tiny: Callable[..., Context]) -> None:
    context = tiny("gemma3")
    for shape in ((5, 31), (6, 32), (5,), (160,)):
        with pytest.raises(pyllama.InvalidRequestError, match=r"shape \(5, 32\)"):
            context.set_control_vector(np.zeros(shape))
    for layers in ((0, 3), (1, 6), (3, 2)):
        with pytest.raises(pyllama.InvalidRequestError, match="layers="):
            context.set_control_vector(np.zeros((5, 32)), layers)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_control_vectors_are_finite(tiny: Callable[..., Context], value: float) -> None:
    context = tiny("gemma3")
    with pytest.raises(pyllama.InvalidRequestError, match="data holds NaN"):
        context.set_control_vector(np.full((5, 32), value))
