"""Saved memory: whole and of one sequence, in bytes and in files."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import pyllama
from pyllama import Batch, Context

DECODERS = ["llama", "mamba", "gemma3"]
TEXT = [5, 9, 14, 20, 7, 33, 8, 12]


def continued(context: Context, prefill: Callable[..., Batch], seq_id: int = 0) -> np.ndarray:
    prefill(context, [3], context.memory.seq_pos_max(seq_id) + 1, seq_id)
    return context.logits()


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("kv_unified", [True, False])
def test_all_sequences_come_back(
    tiny: Callable[..., Context], prefill: Callable[..., Batch], name: str, kv_unified: bool
) -> None:
    source, target = tiny(name, kv_unified=kv_unified), tiny(name, kv_unified=kv_unified)
    prefill(source, TEXT)
    prefill(source, TEXT[:3], seq_id=1)
    prefill(target, [40] * 20, seq_id=1)
    target.state_set(source.state_get())
    assert [target.memory.seq_pos_max(i) for i in range(2)] == [7, 2]
    for seq_id in range(2):
        np.testing.assert_allclose(
            continued(target, prefill, seq_id), continued(source, prefill, seq_id), rtol=0, atol=1e-3
        )


@pytest.mark.parametrize("name", DECODERS)
def test_files_carry_tokens(
    tiny: Callable[..., Context], prefill: Callable[..., Batch], tmp_path: Path, name: str
) -> None:
    source, target = tiny(name), tiny(name)
    prefill(source, TEXT)
    source.state_seq_save(tmp_path / "one.state", 0, TEXT)
    source.state_save(tmp_path / "all.state", np.array(TEXT))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.state", "one.state"]
    tokens = target.state_seq_load(str(tmp_path / "one.state"), 1)
    assert tokens.tolist() == TEXT
    assert tokens.dtype == np.int32
    assert target.memory.seq_pos_max(1) == len(TEXT) - 1
    assert target.state_load(tmp_path / "all.state").tolist() == TEXT
    assert [target.memory.seq_pos_max(i) for i in range(2)] == [len(TEXT) - 1, -1]
    np.testing.assert_allclose(continued(target, prefill), continued(source, prefill), rtol=0, atol=1e-3)
    # The two kinds are told apart, and bytes and files are one format.
    with pytest.raises(pyllama.InvalidRequestError, match="all sequences, not one sequence"):
        target.state_seq_load(tmp_path / "all.state", 0)
    with pytest.raises(pyllama.InvalidRequestError, match="one sequence, not all sequences"):
        target.state_set((tmp_path / "one.state").read_bytes())
    target.state_seq_set(0, (tmp_path / "one.state").read_bytes())


def test_files_that_cannot_be_read_or_written(
    tiny: Callable[..., Context], prefill: Callable[..., Batch], tmp_path: Path
) -> None:
    context = tiny("llama")
    prefill(context, TEXT)
    with pytest.raises(FileNotFoundError):
        context.state_load(tmp_path / "missing")
    with pytest.raises(OSError, match="directory"):
        context.state_seq_load(tmp_path, 0)
    with pytest.raises(FileNotFoundError):
        context.state_save(tmp_path / "no" / "folder")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="directory"):
        context.state_save(tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    path = tmp_path / "cut"
    context.state_seq_save(path, 0, TEXT)
    whole = path.read_bytes()
    for n in range(0, len(whole), 97):
        path.write_bytes(whole[:n])
        with pytest.raises(pyllama.InvalidRequestError, match="saved state"):
            context.state_seq_load(path, 1)
    assert context.memory.seq_pos_max(0) == len(TEXT) - 1


@pytest.mark.parametrize("name", DECODERS)
def test_any_flipped_bit_is_damage(
    tiny: Callable[..., Context], prefill: Callable[..., Batch], name: str
) -> None:
    context = tiny(name)
    prefill(context, TEXT)
    for state, restore in (
        (context.state_get(), context.state_set),
        (context.state_seq_get(0), lambda data: context.state_seq_set(1, data)),
    ):
        for at in range(0, len(state), 131):
            flipped = bytearray(state)
            flipped[at] ^= 1 << at % 8
            with pytest.raises(pyllama.InvalidRequestError):
                restore(flipped)


def test_headers_with_a_right_checksum(tiny: Callable[..., Context], prefill: Callable[..., Batch]) -> None:
    """What the header says is checked too, not its checksum alone."""
    context = tiny("llama")
    prefill(context, TEXT)
    state = context.state_seq_get(0)

    def sealed(data: bytes) -> bytes:
        return data[:8] + struct.pack("<I", zlib.crc32(data[12:])) + data[12:]

    assert sealed(state) == state
    for at, value, message in (
        (12, 1, "another model"),
        (16, 1, "another model"),
        (24, 3, "something else"),
        (28, 1 << 31, "too short for its 2147483648 tokens"),
    ):
        forged = sealed(state[:at] + struct.pack("<I", value) + state[at + 4 :])
        with pytest.raises(pyllama.InvalidRequestError, match=message):
            context.state_seq_set(0, forged)
    cut = sealed(state[:-1])
    with pytest.raises(pyllama.EngineError, match="does not fit"):
        context.state_seq_set(1, cut)
    longer = sealed(state + b"x")
    with pytest.raises(pyllama.EngineError, match="does not fit"):
        context.state_seq_set(1, longer)
    assert context.memory.seq_pos_max(1) == -1
    prefill(context, [3], len(TEXT))


def test_states_of_other_models_are_refused(
    tiny: Callable[..., Context], prefill: Callable[..., Batch]
) -> None:
    contexts = [tiny(name) for name in DECODERS]
    for context in contexts:
        prefill(context, TEXT)
    for source in contexts:
        for target in contexts:
            if source is not target:
                with pytest.raises(pyllama.InvalidRequestError, match="another model"):
                    target.state_set(source.state_get())
                with pytest.raises(pyllama.InvalidRequestError, match="another model"):
                    target.state_seq_set(0, source.state_seq_get(0))


@pytest.mark.parametrize("name", DECODERS)
def test_states_of_other_layouts_fit_or_raise(
    tiny: Callable[..., Context], prefill: Callable[..., Batch], name: str
) -> None:
    """A context of other options takes a state or says no; afterwards it still works."""
    contexts = [
        tiny(name, **options)
        for options in (
            {},
            {"kv_unified": False},
            {"flash_attn": False},
            {"type_k": "f32"},
            {"swa_full": False},
            {"n_seq_max": 1},
            {"n_ctx": 300, "n_seq_max": 3, "kv_unified": False},
        )
    ]
    n_taken = n_refused = 0
    for context in contexts:
        prefill(context, TEXT * 5)
    for source in contexts:
        states = [source.state_seq_get(0), source.state_seq_get(0, partial=True)]
        whole = source.state_get()
        for target in contexts:
            for state in states:
                try:
                    target.state_seq_set(0, state)
                    n_taken += 1
                except pyllama.EngineError:
                    n_refused += 1
                    assert target.memory.seq_pos_max(0) == -1
                target.memory.clear()
                prefill(target, TEXT * 5)
            try:
                target.state_set(whole)
                n_taken += 1
            except pyllama.EngineError:
                n_refused += 1
            continued(target, prefill)
            target.memory.clear()
            prefill(target, TEXT * 5)
    assert n_taken
    # A recurrent state has one layout.
    assert n_refused or name == "mamba"


def test_ids_that_only_share_cells_are_not_saved(
    tiny: Callable[..., Context], prefill: Callable[..., Batch]
) -> None:
    context = tiny("llama")
    prefill(context, TEXT)
    context.memory.seq_cp(0, 200)
    with pytest.raises(pyllama.InvalidRequestError, match="sequence 200 is not below n_seq_max=2"):
        context.state_get()
    context.memory.seq_rm(200)
    context.state_set(context.state_get())


def test_outputs_do_not_outlive_a_restore(context: Context, prefill: Callable[..., Batch]) -> None:
    prefill(context, [1, 2, 3])
    state = context.state_get()
    with context.logits_view(), pytest.raises(pyllama.EngineError, match="logits view is open"):
        context.state_set(state)
    context.state_set(state)
    with pytest.raises(IndexError):
        context.logits()
