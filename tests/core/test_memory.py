from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import pyllama
from pyllama import Batch, Context, Model


def test_prefix_reuse_equals_fresh(
    make_context: Callable[..., Context], prompt: list[int], prefill: Callable[..., Batch]
) -> None:
    reused, fresh = make_context(), make_context()
    prefill(reused, [*prompt, 9, 8, 7])
    assert reused.memory.seq_rm(0, len(prompt) - 2)
    assert reused.memory.seq_pos_max(0) == len(prompt) - 3
    prefill(reused, prompt[-2:], len(prompt) - 2)
    prefill(fresh, prompt)
    np.testing.assert_allclose(reused.logits(), fresh.logits(), rtol=0, atol=0.05)


@pytest.mark.parametrize("kv_unified", [True, False])
def test_shared_prefix_equals_own_prefill(
    make_context: Callable[..., Context], prompt: list[int], prefill: Callable[..., Batch], kv_unified: bool
) -> None:
    shared, own = make_context(kv_unified=kv_unified), make_context(kv_unified=kv_unified)
    prefill(shared, prompt, seq_id=0)
    shared.memory.seq_cp(0, 2)
    assert shared.memory.seq_pos_max(2) == len(prompt) - 1
    prefill(shared, [11, 12], len(prompt), seq_id=2)
    prefill(own, [*prompt, 11, 12], seq_id=2)
    np.testing.assert_allclose(shared.logits(), own.logits(), rtol=0, atol=0.05)
    assert shared.memory.seq_pos_max(0) == len(prompt) - 1


def test_a_part_is_shared_in_unified_memory(
    context: Context, prompt: list[int], prefill: Callable[..., Batch]
) -> None:
    prefill(context, prompt)
    context.memory.seq_cp(0, 1, 0, 4)
    assert context.memory.seq_pos_max(1) == 3


def test_streams_copy_whole_sequences_only(
    make_context: Callable[..., Context], prompt: list[int], prefill: Callable[..., Batch]
) -> None:
    context = make_context(kv_unified=False)
    prefill(context, prompt)
    for p0, p1 in ((2, -1), (0, 4), (1, 100)):
        with pytest.raises(pyllama.UnsupportedError, match="whole"):
            context.memory.seq_cp(0, 1, p0, p1)
    context.memory.seq_cp(0, 1, 0, len(prompt))
    prefill(context, [1], len(prompt), seq_id=1)


def test_a_copy_needs_an_empty_destination(context: Context, prefill: Callable[..., Batch]) -> None:
    prefill(context, [1, 2, 3])
    context.memory.seq_cp(0, 0)
    context.memory.seq_cp(0, 1)
    with pytest.raises(pyllama.InvalidRequestError, match="sequence 1 is not empty"):
        context.memory.seq_cp(0, 1)


@pytest.mark.parametrize("kv_unified", [True, False])
def test_keep_and_clear(
    make_context: Callable[..., Context], prefill: Callable[..., Batch], kv_unified: bool
) -> None:
    context = make_context(kv_unified=kv_unified)
    memory = context.memory
    for seq_id in range(3):
        prefill(context, [1, 2, 3], seq_id=seq_id)
    memory.seq_keep(1)
    assert [memory.seq_pos_max(seq_id) for seq_id in range(3)] == [-1, 2, -1]
    assert memory.seq_pos_min(1) == 0
    memory.clear()
    assert memory.seq_pos_max(1) == -1
    prefill(context, [1], seq_id=0)
    prefill(context, [1], seq_id=1)
    assert memory.seq_rm(-1)
    assert memory.seq_pos_max(0) == memory.seq_pos_max(1) == -1


def test_shift(context: Context, prefill: Callable[..., Batch]) -> None:
    memory = context.memory
    assert memory.can_shift
    prefill(context, list(range(10, 20)))
    assert memory.seq_rm(0, 2, 5)
    memory.seq_add(0, 5, -1, -3)
    assert (memory.seq_pos_min(0), memory.seq_pos_max(0)) == (0, 6)
    prefill(context, [1], 7)
    memory.seq_div(0, -1, -1, 2)
    assert memory.seq_pos_max(0) == 3
    prefill(context, [1], 4)
    memory.seq_add(0, -1, -1, -100)
    assert memory.seq_pos_max(0) == -1


def test_bad_values_are_named(make_context: Callable[..., Context], prefill: Callable[..., Batch]) -> None:
    for unified, over in ((True, 256), (False, 4)):
        memory = make_context(kv_unified=unified).memory
        for call in (memory.seq_pos_min, memory.seq_pos_max, memory.seq_keep):
            for seq_id in (-1, over, 1 << 40):
                with pytest.raises(pyllama.InvalidRequestError, match=f"seq_id={seq_id} must be in"):
                    call(seq_id)
        with pytest.raises(pyllama.InvalidRequestError, match="seq_id=-2"):
            memory.seq_rm(-2)
        with pytest.raises(pyllama.InvalidRequestError, match=f"dst={over}"):
            memory.seq_cp(0, over)
        with pytest.raises(pyllama.InvalidRequestError, match="d=0"):
            memory.seq_div(0, -1, -1, 0)
        with pytest.raises(pyllama.InvalidRequestError, match="delta="):
            memory.seq_add(0, -1, -1, 1 << 30)
        with pytest.raises(pyllama.InvalidRequestError, match="p0=-2"):
            memory.seq_rm(0, -2)


def test_ids_beyond_the_slots_hold_prefixes(context: Context, prefill: Callable[..., Batch]) -> None:
    prefill(context, [1, 2, 3])
    context.memory.seq_cp(0, 200)
    context.memory.seq_rm(0)
    context.memory.seq_cp(200, 1)
    prefill(context, [4], 3, seq_id=1)


def test_memory_keeps_its_context_alive_but_not_open(make_context: Callable[..., Context]) -> None:
    context = make_context()
    memory = context.memory
    context.close()
    with pytest.raises(pyllama.ClosedError):
        memory.clear()


@pytest.mark.parametrize("kv_unified", [True, False])
def test_state_goes_to_another_sequence(
    make_context: Callable[..., Context], prompt: list[int], prefill: Callable[..., Batch], kv_unified: bool
) -> None:
    source, target = make_context(kv_unified=kv_unified), make_context(kv_unified=kv_unified)
    prefill(source, prompt)
    state = source.state_seq_get(0)
    target.state_seq_set(3, state)
    assert target.memory.seq_pos_max(3) == len(prompt) - 1
    prefill(source, [4], len(prompt))
    prefill(target, [4], len(prompt), seq_id=3)
    np.testing.assert_allclose(source.logits(), target.logits(), rtol=0, atol=1e-3)


def test_garbage_is_no_state(context: Context, prompt: list[int], prefill: Callable[..., Batch]) -> None:
    prefill(context, prompt)
    state = context.state_seq_get(0)
    for garbage in (b"", b"x" * 100, state[:40], state[:-1], state + b"x"):
        with pytest.raises(pyllama.InvalidRequestError, match="saved state"):
            context.state_seq_set(1, garbage)
    for at in (9, 13, 30, len(state) // 2, len(state) - 1):
        flipped = bytearray(state)
        flipped[at] ^= 1
        with pytest.raises(pyllama.InvalidRequestError, match="damaged"):
            context.state_seq_set(1, flipped)
    for seq_id in (-1, 4):
        with pytest.raises(pyllama.InvalidRequestError, match="seq_id"):
            context.state_seq_set(seq_id, state)
        with pytest.raises(pyllama.InvalidRequestError, match="seq_id"):
            context.state_seq_get(seq_id)
    with pytest.raises(TypeError):
        context.state_seq_set(1, "text")


def test_a_state_of_another_layout_or_size_is_refused(
    make_context: Callable[..., Context], prefill: Callable[..., Batch]
) -> None:
    big = make_context(n_ctx=512)
    prefill(big, [1] * 300)
    state = big.state_seq_get(0)
    for options in ({"n_ctx": 256}, {"kv_unified": False}, {"type_k": "f32"}):
        other = make_context(**options)
        with pytest.raises(pyllama.EngineError, match="does not fit"):
            other.state_seq_set(0, state)
        prefill(other, [1, 2])


def test_state_waits_for_pending_shifts(context: Context, prefill: Callable[..., Batch]) -> None:
    prefill(context, [1, 2, 3])
    state = context.state_seq_get(0)
    context.memory.seq_add(0, -1, -1, 1)
    with pytest.raises(pyllama.InvalidRequestError, match="decode first"):
        context.state_seq_get(0)
    with pytest.raises(pyllama.InvalidRequestError, match="decode first"):
        context.state_seq_set(1, state)
    prefill(context, [4], 4)
    context.state_seq_set(1, state)


def test_quantised_keys_shift_only_where_llama_cpp_can(
    make_context: Callable[..., Context], prefill: Callable[..., Batch], wide: Path
) -> None:
    """With heads that are no multiple of 64, the decode after a shift used to end the process."""
    context = make_context(type_k="q8_0", type_v="q8_0")
    prefill(context, [1, 2, 3])
    assert not context.memory.can_shift
    for call in (lambda: context.memory.seq_add(0, 1, -1, 1), lambda: context.memory.seq_div(0, 1, -1, 2)):
        with pytest.raises(pyllama.UnsupportedError, match="cannot be shifted"):
            call()
    prefill(context, [4], 3)
    with Model(wide) as model, Context(model, n_ctx=64, n_threads=1, type_k="q8_0", type_v="q8_0") as other:
        prefill(other, [1, 2, 3])
        assert other.memory.can_shift
        other.memory.seq_add(0, 1, -1, 1)
        prefill(other, [4], 4)
        assert other.memory.seq_pos_max(0) == 4
