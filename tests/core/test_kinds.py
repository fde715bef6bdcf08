"""Models of other kinds than the bundled one: recurrent, hybrid, embedding, with a window, an encoder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import pyllama
from pyllama import Batch, Context

TEXT = [5, 9, 14, 20, 7, 33, 8, 12]


def encode(context: Context, tokens: list[int], seq_id: int = 0) -> None:
    batch = Batch(len(tokens))
    batch.add_sequence(tokens, 0, seq_id, "all")
    context.encode(batch)


# --- recurrent ---


def test_a_recurrent_model_says_so(tiny: Callable[..., Context]) -> None:
    model = tiny("mamba").model
    assert (model.is_recurrent, model.is_hybrid, model.has_encoder, model.has_decoder) == (
        True,
        False,
        False,
        True,
    )
    assert model.rope_type is None
    assert model.vocab.type == "spm"


def test_a_recurrent_state_is_the_same_in_steps(
    tiny: Callable[..., Context], prefill: Callable[..., Batch]
) -> None:
    whole, steps = tiny("mamba"), tiny("mamba")
    prefill(whole, TEXT)
    for pos, token in enumerate(TEXT):
        prefill(steps, [token], pos)
    np.testing.assert_allclose(whole.logits(), steps.logits(), rtol=0, atol=1e-4)


def test_a_recurrent_sequence_is_removed_and_copied_whole(
    tiny: Callable[..., Context], prefill: Callable[..., Batch]
) -> None:
    context = tiny("mamba")
    memory = context.memory
    prefill(context, TEXT)
    assert not memory.seq_rm(0, 3)
    assert not memory.seq_rm(-1, 3)
    assert memory.seq_pos_max(0) == len(TEXT) - 1
    with pytest.raises(pyllama.UnsupportedError, match="whole"):
        memory.seq_cp(0, 1, 0, 3)
    memory.seq_cp(0, 1)
    prefill(context, [3], len(TEXT), seq_id=0)
    first = context.logits()
    prefill(context, [3], len(TEXT), seq_id=1)
    np.testing.assert_allclose(context.logits(), first, rtol=0, atol=1e-4)
    assert memory.seq_rm(-1)
    assert memory.seq_pos_max(0) == memory.seq_pos_max(1) == -1


def test_a_recurrent_position_does_not_fall_below_zero(
    tiny: Callable[..., Context], prefill: Callable[..., Batch]
) -> None:
    context = tiny("mamba")
    prefill(context, TEXT)
    with pytest.raises(pyllama.InvalidRequestError, match="delta=-100 would move"):
        context.memory.seq_add(0, -1, -1, -100)
    context.memory.seq_add(0, -1, -1, -2)
    assert context.memory.seq_pos_max(0) == len(TEXT) - 3
    prefill(context, [3], len(TEXT) - 2)


@pytest.mark.parametrize("partial", [False, True])
def test_a_recurrent_state_goes_to_another_sequence(
    tiny: Callable[..., Context], prefill: Callable[..., Batch], partial: bool
) -> None:
    source, target = tiny("mamba"), tiny("mamba")
    prefill(source, TEXT)
    target.state_seq_set(1, source.state_seq_get(0, partial=partial))
    prefill(source, [3], len(TEXT))
    prefill(target, [3], len(TEXT), seq_id=1)
    np.testing.assert_allclose(target.logits(), source.logits(), rtol=0, atol=1e-5)


# --- embedding ---


def pooled(context: Context, *texts: list[int]) -> list[np.ndarray]:
    batch = Batch(64)
    for seq_id, tokens in enumerate(texts):
        batch.add_sequence(tokens, 0, seq_id, "all")
    context.decode(batch)
    return [context.embeddings_seq(seq_id) for seq_id in range(len(texts))]


def test_an_embedding_model_pools_as_it_says(tiny: Callable[..., Context]) -> None:
    context = tiny("bert", embeddings=True)
    assert context.pooling == "mean"
    (mean,) = pooled(context, TEXT)
    rows = tiny("bert", embeddings=True, pooling="none")
    batch = Batch(len(TEXT))
    batch.add_sequence(TEXT, 0, 0, "all")
    rows.encode(batch)
    hidden = rows.embeddings_all()
    assert hidden.shape == (len(TEXT), context.model.n_embd_out)
    assert np.array_equal(hidden[2], rows.embeddings(2))
    np.testing.assert_allclose(mean, hidden.mean(axis=0), rtol=0, atol=1e-3)
    np.testing.assert_allclose(
        pooled(tiny("bert", embeddings=True, pooling="cls"), TEXT)[0], hidden[0], atol=1e-3
    )
    np.testing.assert_allclose(
        pooled(tiny("bert", embeddings=True, pooling="last"), TEXT)[0], hidden[-1], atol=1e-3
    )


def test_sequences_of_a_batch_do_not_see_each_other(tiny: Callable[..., Context]) -> None:
    context = tiny("bert", embeddings=True)
    both = pooled(context, TEXT, TEXT[::-1])
    np.testing.assert_allclose(both[0], pooled(context, TEXT)[0], rtol=0, atol=1e-3)
    np.testing.assert_allclose(both[1], pooled(context, TEXT[::-1])[0], rtol=0, atol=1e-3)
    assert not np.allclose(both[0], both[1], atol=0.01)


def test_a_classifier_has_labels(tiny: Callable[..., Context]) -> None:
    context = tiny("bert", embeddings=True, pooling="rank")
    assert context.model.cls_labels == ["no", "yes"]
    assert pooled(context, TEXT)[0].shape == (2,)
    assert tiny("llama").model.cls_labels == []


def test_an_embedding_model_has_no_memory_and_no_logits(tiny: Callable[..., Context]) -> None:
    context = tiny("bert", embeddings=True)
    pooled(context, TEXT)
    with pytest.raises(IndexError, match="no logits"):
        context.logits()
    with pytest.raises(IndexError, match="no logits"):
        context.logits_all()
    with pytest.raises(pyllama.UnsupportedError, match="no KV memory"):
        context.memory.clear()
    for call in (context.state_get, lambda: context.state_seq_get(0)):
        with pytest.raises(pyllama.UnsupportedError, match="no memory"):
            call()


def test_learned_positions_end(tiny: Callable[..., Context]) -> None:
    """llama.cpp would look the position up in a table that ends there."""
    context = tiny("bert", embeddings=True, n_ctx=512)
    batch = Batch(4)
    batch.add_sequence([5, 6], 127, 0)
    with pytest.raises(
        pyllama.InvalidRequestError, match="position 128 at index 1: the model has learned 128"
    ):
        context.decode(batch)


def test_an_encoders_batch_is_one_step(tiny: Callable[..., Context]) -> None:
    context = tiny("bert", embeddings=True, n_ubatch=8)
    batch = Batch(16)
    batch.add_sequence([5] * 9, 0, 0)
    with pytest.raises(pyllama.InvalidRequestError, match="n_ubatch is 8"):
        context.decode(batch)


# --- sliding window ---


@pytest.mark.parametrize("swa_full", [True, False])
def test_a_sliding_window(
    tiny: Callable[..., Context], prefill: Callable[..., Batch], swa_full: bool
) -> None:
    """Past the window, one pass and single steps agree; so does a state moved to another sequence."""
    text = [5 + i % 50 for i in range(40)]
    whole, steps = tiny("gemma3", swa_full=swa_full), tiny("gemma3", swa_full=swa_full)
    assert whole.model.n_swa == 16
    prefill(whole, text)
    for pos, token in enumerate(text):
        prefill(steps, [token], pos)
    np.testing.assert_allclose(whole.logits(), steps.logits(), rtol=0, atol=0.02)
    state, part = whole.state_seq_get(0), whole.state_seq_get(0, partial=True)
    assert len(part) < len(state)
    steps.state_seq_set(1, state)
    prefill(whole, [3], 40)
    prefill(steps, [3], 40, seq_id=1)
    np.testing.assert_allclose(whole.logits(), steps.logits(), rtol=0, atol=0.02)


# --- encoder with decoder ---


def test_a_decoder_reads_what_was_encoded(
    tiny: Callable[..., Context], prefill: Callable[..., Batch]
) -> None:
    context = tiny("t5")
    model = context.model
    assert model.has_encoder
    assert model.decoder_start_token == 0
    with pytest.raises(pyllama.InvalidRequestError, match="only after encode"):
        prefill(context, [0])
    encode(context, TEXT)
    with pytest.raises(IndexError, match="no logits"):
        context.logits()
    prefill(context, [0])
    first = context.logits()
    with pytest.raises(pyllama.InvalidRequestError, match="sequence 1 was not in the last batch encoded"):
        prefill(context, [0], seq_id=1)
    context.memory.clear()
    encode(context, TEXT[::-1])
    prefill(context, [0])
    assert not np.allclose(context.logits(), first, atol=0.01)
    context.memory.clear()
    encode(context, TEXT)
    prefill(context, [0])
    np.testing.assert_allclose(context.logits(), first, rtol=0, atol=1e-4)


def test_an_encoder_decoder_needs_one_stream_and_no_pooling(tiny: Callable[..., Context]) -> None:
    with pytest.raises(pyllama.UnsupportedError, match="needs kv_unified=True"):
        tiny("t5", kv_unified=False)
    with pytest.raises(pyllama.UnsupportedError, match="cannot be pooled"):
        tiny("t5", embeddings=True, pooling="mean")


@pytest.mark.parametrize("name", ["llama", "mamba", "gemma3"])
def test_decoders_do_not_encode(tiny: Callable[..., Context], name: str) -> None:
    with pytest.raises(pyllama.UnsupportedError, match="no encoder"):
        encode(tiny(name), TEXT)


# --- hybrid, and several positions each ---


def test_a_hybrid_goes_back_no_further_than_its_states(
    tiny: Callable[..., Context], prefill: Callable[..., Batch]
) -> None:
    context = tiny("lfm2")
    assert (context.model.is_recurrent, context.model.is_hybrid) == (False, True)
    prefill(context, TEXT)
    assert not context.memory.seq_rm(0, 3)
    assert context.memory.seq_pos_max(0) == len(TEXT) - 1
    part = context.state_seq_get(0, partial=True)
    assert len(part) < len(context.state_seq_get(0))
    prefill(context, [3], len(TEXT))
    expected = context.logits()
    # The attention's part is there already: with the state put back, the sequence is as it was.
    whole = tiny("lfm2")
    prefill(whole, TEXT)
    whole.state_seq_set(0, part)
    prefill(whole, [3], len(TEXT))
    np.testing.assert_allclose(whole.logits(), expected, rtol=0, atol=1e-3)


def test_embeddings_have_several_positions(tiny: Callable[..., Context]) -> None:
    """Alone or mixed with tokens, they are read with four positions each."""
    alone, mixed = tiny("qwen2vl"), tiny("qwen2vl")
    rows = np.random.default_rng(3).standard_normal((8, alone.model.n_embd_inp))
    assert alone.model.rope_type == "mrope"
    assert not alone.memory.can_shift
    batch = Batch(8, n_embd=alone.model.n_embd_inp)
    batch.add_embeddings(rows, 0, 0)
    alone.decode(batch)
    batch.clear()
    batch.add(5, 8, 0, logits=True)
    alone.decode(batch)
    batch = Batch(9, n_embd=mixed.model.n_embd_inp)
    batch.add_embeddings(rows, 0, 0)
    batch.add(5, 8, 0, logits=True)
    mixed.decode(batch)
    np.testing.assert_allclose(mixed.logits(), alone.logits(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("mixed", [False, True])
def test_an_image_has_rows_and_columns(tiny: Callable[..., Context], mixed: bool) -> None:
    """Positions in three sections are read as such, and a line of them is what one number says."""
    rows = np.random.default_rng(3).standard_normal((4, 32))
    line = [[pos, pos, pos] for pos in range(1, 5)]
    square = [[1, 1 + i // 2, 1 + i % 2] for i in range(4)]
    found = []
    for pos, after in ((1, 5), (line, 5), ([[*p, 0] for p in line], 5), (square, 5), (square, 5)):
        context = tiny("qwen2vl")
        batch = Batch(6, n_embd=32)
        batch.add(9, 0, 0)
        if not mixed:
            context.decode(batch)
            batch.clear()
        batch.add_embeddings(rows, pos, 0)
        context.decode(batch)
        found.append(context.logits())
        batch.clear()
        batch.add(5, after, 0, logits=True)
        context.decode(batch)
        found[-1] = np.concatenate([found[-1], context.logits()])
    one, by_three, by_four, first, second = found
    np.testing.assert_allclose(by_three, one, rtol=0, atol=1e-4)
    np.testing.assert_allclose(by_four, one, rtol=0, atol=1e-4)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-4)
    assert np.abs(first - one).max() > 1e-2


def test_rows_and_columns_need_a_model_that_has_them(tiny: Callable[..., Context]) -> None:
    batch = Batch(2, n_embd=32)
    batch.add_embeddings(np.zeros((1, 32)), [[0, 1, 1]], 0)
    with pytest.raises(pyllama.InvalidRequestError, match="models with M-RoPE"):
        tiny("llama").decode(batch)
    context = tiny("qwen2vl")
    batch.add_embeddings(np.zeros((1, 32)), [[5, 1, 1]], 0)
    context.decode(batch)
    with pytest.raises(pyllama.InvalidRequestError, match="inconsistent sequence positions"):
        context.decode(batch)


# --- misuse ---


@pytest.mark.parametrize("name", ["llama", "mamba", "lfm2", "gemma3", "qwen2vl", "bert", "t5"])
def test_no_call_ends_the_process(name: str) -> None:
    """Random calls, right and wrong, in a child process; the seed is fixed, so that a failure comes back."""
    pytest.importorskip("gguf", reason="writes the models")
    worker = Path(__file__).with_name("fuzz_worker.py")
    child = subprocess.run(
        [sys.executable, "-P", "-W", "error", str(worker), "--random", name, "11", "1800"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (child.returncode, child.stdout) == (0, '"ok"\n'), child.stderr[-2000:]
