"""Outputs of a batch, embeddings as input, and what is switched while a context lives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import pyllama
from pyllama import Batch, Context, ContextPerf

TEXT = [5, 9, 14, 20, 7, 33, 8, 12]


@pytest.fixture
def token_rows(tiny_files: Callable[[str], Path]) -> np.ndarray:
    """The tiny model's own embeddings of TEXT."""
    gguf = pytest.importorskip("gguf", reason="gguf reads the model: pip install gguf")
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(tiny_files("llama")).tensors}
    return np.array(tensors["token_embd.weight"][TEXT])


def test_all_rows_at_once(context: Context, prompt: list[int]) -> None:
    batch = Batch(len(prompt))
    for pos, token in enumerate(prompt):
        batch.add(token, pos, 0, logits=pos % 3 == 1)
    context.decode(batch)
    asked = range(1, len(prompt), 3)
    rows = context.logits_all()
    assert rows.shape == (len(asked), len(context.model.vocab))
    assert rows.dtype == np.float32
    for row, i in zip(rows, asked, strict=True):
        assert np.array_equal(row, context.logits(i))


def test_no_rows(context: Context, prompt: list[int], prefill: Callable[..., Batch]) -> None:
    assert context.logits_all().shape == (0, len(context.model.vocab))
    prefill(context, prompt, logits="none")
    assert context.logits_all().shape == (0, len(context.model.vocab))
    with pytest.raises(pyllama.InvalidRequestError, match="embeddings=False"):
        context.embeddings_all()


def test_embeddings_equal_the_tokens_they_belong_to(
    tiny: Callable[..., Context], prefill: Callable[..., Batch], token_rows: np.ndarray
) -> None:
    tokens, rows = tiny("llama"), tiny("llama")
    prefill(tokens, TEXT, logits="all")
    batch = Batch(len(TEXT), n_embd=rows.model.n_embd_inp)
    batch.add_embeddings(token_rows, 0, 0, "all")
    rows.decode(batch)
    np.testing.assert_allclose(rows.logits_all(), tokens.logits_all(), rtol=0, atol=1e-4)


def test_tokens_and_embeddings_mix(
    tiny: Callable[..., Context], prefill: Callable[..., Batch], token_rows: np.ndarray
) -> None:
    tokens, mixed = tiny("llama"), tiny("llama")
    prefill(tokens, TEXT, logits="all")
    batch = Batch(len(TEXT), n_embd=mixed.model.n_embd_inp)
    batch.add_sequence(TEXT[:3], 0, 0, "all")
    batch.add_embeddings(token_rows[3:6], 3, 0, "all")
    batch.add(TEXT[6], 6, [0], logits=True)
    batch.add_embeddings(token_rows[7:], 7, 0, "all")
    mixed.decode(batch)
    np.testing.assert_allclose(mixed.logits_all(), tokens.logits_all(), rtol=0, atol=1e-4)


def test_embeddings_of_another_width_are_refused(context: Context) -> None:
    batch = Batch(2, n_embd=3)
    batch.add_embeddings(np.zeros((1, 3)), 0, 0)
    with pytest.raises(pyllama.InvalidRequestError, match="embeddings of 3 numbers, and this model's have"):
        context.decode(batch)


@pytest.mark.parametrize("value", [1e30, 1e38])
@pytest.mark.parametrize("name", ["llama", "mamba", "gemma3"])
def test_very_large_embeddings_stay_harmless(tiny: Callable[..., Context], name: str, value: float) -> None:
    context = tiny(name)
    batch = Batch(4, n_embd=context.model.n_embd_inp)
    batch.add_embeddings(np.full((4, context.model.n_embd_inp), value), 0, 0)
    context.decode(batch)
    assert context.logits().shape == (len(context.model.vocab),)


def test_outputs_have_a_limit(tiny: Callable[..., Context], prefill: Callable[..., Batch]) -> None:
    context = tiny("llama", n_outputs_max=3)
    with pytest.raises(pyllama.InvalidRequestError, match="asks for 4 outputs, and n_outputs_max is 3"):
        prefill(context, TEXT[:4], logits="all")
    prefill(context, TEXT, logits="last")
    prefill(context, TEXT[:3], len(TEXT), logits="all")
    assert context.logits_all().shape == (3, 64)


@pytest.mark.parametrize(
    "options", [{"n_batch": 1}, {"n_ctx": 1}, {"n_outputs_max": 1}, {"n_batch": 64, "n_seq_max": 100}]
)
def test_sequences_need_as_many_outputs(tiny: Callable[..., Context], options: dict[str, int]) -> None:
    """llama.cpp reserves one output for each sequence, and ends the process when there is no room."""
    with pytest.raises(pyllama.InvalidRequestError, match="sequences need"):
        tiny("llama", **options)


def test_every_token_has_embeddings(tiny: Callable[..., Context]) -> None:
    """llama.cpp would reserve a graph that pools more rows than it has, and end the process."""
    for name in ("bert", "llama"):
        with pytest.raises(pyllama.InvalidRequestError, match=r"n_outputs_max=4 must be .* n_ubatch=16"):
            tiny(name, n_outputs_max=4, n_ubatch=16, embeddings=True, pooling="mean")
    context = tiny("llama", n_outputs_max=4, n_ubatch=16)
    with pytest.raises(pyllama.InvalidRequestError, match="n_outputs_max=4"):
        context.set_embeddings(True)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("llama", {"kv_unified": False}),
        ("lfm2", {"kv_unified": False, "embeddings": True, "pooling": "none"}),
        ("mamba", {}),
    ],
)
def test_tokens_of_several_sequences_need_one_buffer(
    tiny: Callable[..., Context], name: str, options: dict[str, object]
) -> None:
    context = tiny(name, **options)
    batch = Batch(2, 2)
    batch.add(5, 0, [0, 1], logits=True)
    with pytest.raises(pyllama.InvalidRequestError, match="index 0 belongs to 2 sequences"):
        context.decode(batch)


def test_embeddings_are_switched_on_and_off(
    tiny: Callable[..., Context], prefill: Callable[..., Batch]
) -> None:
    context = tiny("llama", pooling="none")
    prefill(context, TEXT)
    context.set_embeddings(True)
    with pytest.raises(IndexError, match="switched on after the last batch"):
        context.embeddings()
    prefill(context, TEXT, len(TEXT))
    assert context.embeddings(0).shape == (context.model.n_embd_out,)
    context.set_embeddings(False)
    with pytest.raises(pyllama.InvalidRequestError, match="embeddings=False"):
        context.embeddings()
    uneven = tiny("llama", pooling="mean", n_seq_max=3, n_ubatch=32)
    with pytest.raises(pyllama.InvalidRequestError, match="pooling needs steps"):
        uneven.set_embeddings(True)


@pytest.mark.parametrize("pooling", ["none", "last", "mean", "rank"])
@pytest.mark.parametrize("name", ["llama", "lfm2", "mamba", "gemma3"])
def test_switched_off_embeddings_leave_room_for_no_output(
    tiny: Callable[..., Context], prefill: Callable[..., Batch], name: str, pooling: str
) -> None:
    """Buffers reserved for the graph with embeddings were used for the one without, out of bounds."""
    context = tiny(name, embeddings=True, pooling=pooling)
    data = np.ones((context.model.n_layer - 1, context.model.n_embd))
    context.set_control_vector(data)
    context.set_embeddings(False)
    prefill(context, TEXT, logits="none")
    prefill(context, TEXT, len(TEXT))
    steered = context.logits()
    fresh = tiny(name)
    fresh.set_control_vector(data)
    prefill(fresh, TEXT, logits="none")
    prefill(fresh, TEXT, len(TEXT))
    np.testing.assert_allclose(steered, fresh.logits(), rtol=0, atol=1e-3)


def test_attention_is_switched(tiny: Callable[..., Context], prefill: Callable[..., Batch]) -> None:
    context = tiny("llama", n_ubatch=8)
    assert context.causal_attn
    prefill(context, TEXT, logits="all")
    causal = context.logits(0)
    context.memory.clear()
    context.set_causal_attn(False)
    assert not context.causal_attn
    prefill(context, TEXT, logits="all")
    assert not np.allclose(context.logits(0), causal, atol=1e-3)
    with pytest.raises(pyllama.InvalidRequestError, match="n_ubatch is 8"):
        prefill(context, TEXT + TEXT, len(TEXT))
    assert tiny("llama", attention_type="non-causal").causal_attn is False


def test_threads_are_switched(context: Context, prefill: Callable[..., Batch]) -> None:
    context.set_n_threads(2)
    assert (context.n_threads, context.n_threads_batch) == (2, 2)
    context.set_n_threads(1, 2)
    assert (context.n_threads, context.n_threads_batch) == (1, 2)
    prefill(context, [1, 2])
    for values in ((0,), (513,), (1, 0)):
        with pytest.raises(pyllama.InvalidRequestError, match="n_threads"):
            context.set_n_threads(*values)


def test_times_and_counts(make_context: Callable[..., Context], prefill: Callable[..., Batch]) -> None:
    context = make_context()
    prefill(context, [1, 2, 3])
    context.synchronize()
    perf = context.perf()
    assert isinstance(perf, ContextPerf)
    assert perf.n_prompt == 3
    assert perf.prompt_ms > 0
    context.perf_reset()
    assert context.perf().prompt_ms == 0
    quiet = make_context(no_perf=True)
    prefill(quiet, [1, 2, 3])
    quiet.synchronize()
    assert quiet.perf().prompt_ms == 0


def test_positions_stretch(tiny: Callable[..., Context], prefill: Callable[..., Batch]) -> None:
    plain = tiny("llama")
    prefill(plain, TEXT)
    for options in (
        {"rope_freq_base": 1e6},
        {"rope_freq_scale": 0.5},
        {"rope_scaling_type": "linear", "rope_freq_scale": 0.25},
        {"rope_scaling_type": "yarn", "rope_freq_scale": 0.25, "yarn_orig_ctx": 16, "yarn_ext_factor": 1.0},
    ):
        stretched = tiny("llama", **options)
        prefill(stretched, TEXT)
        assert np.isfinite(stretched.logits()).all()
        assert not np.allclose(stretched.logits(), plain.logits(), atol=1e-4)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("attention_type", "both"),
        ("rope_scaling_type", "cubic"),
        ("rope_freq_base", 0),
        ("rope_freq_base", float("nan")),
        ("rope_freq_scale", -1),
        ("yarn_ext_factor", float("inf")),
        ("yarn_attn_factor", -1),
        ("yarn_beta_fast", 0),
        ("yarn_beta_slow", 1e9),
        ("yarn_orig_ctx", 0),
        ("n_outputs_max", -1),
    ],
)
def test_bad_options_name_the_option(tiny: Callable[..., Context], option: str, value: object) -> None:
    with pytest.raises(pyllama.InvalidRequestError, match=option) as caught:
        tiny("llama", **{option: value})
    assert caught.value.param == option
