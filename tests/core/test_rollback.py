"""Older recurrent states (n_rs_seq): taking back is exact, or it is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import pyllama
from pyllama import Batch, Context

Tiny = Callable[..., Context]
Prefill = Callable[..., Batch]
TEXT = [5, 9, 14, 20, 7, 33, 8, 12, 3, 4, 6]


def test_the_number_is_the_models(tiny: Tiny) -> None:
    assert tiny("lfm2", n_rs_seq=3).n_rs_seq == 3
    assert tiny("llama", n_rs_seq=3).n_rs_seq == 0
    with pytest.raises(pyllama.InvalidRequestError, match=r"n_rs_seq=15 must be in \[0, 14\]"):
        tiny("lfm2", n_rs_seq=15, n_ubatch=16)


@pytest.mark.parametrize("step", [1, 2, 3, 11])
@pytest.mark.parametrize("back", [1, 2, 4, 5])
def test_a_state_goes_back_exactly_or_not_at_all(tiny: Tiny, prefill: Prefill, step: int, back: int) -> None:
    """The last batch had 11 % step or step tokens; only what it left is kept."""
    context, fresh = tiny("lfm2", n_rs_seq=4), tiny("lfm2")
    for pos in range(0, len(TEXT), step):
        prefill(context, TEXT[pos : pos + step], pos)
    last = len(TEXT) % step or step
    done = context.memory.seq_rm(0, len(TEXT) - back)
    assert done == (back < last and back <= 4)
    if not done:
        assert context.memory.seq_pos_max(0) == len(TEXT) - 1
        return
    assert not context.memory.seq_rm(0, len(TEXT) - back - 1)  # once
    other = [*TEXT[: len(TEXT) - back], 40, 41]
    prefill(context, other[-2:], len(other) - 2)
    prefill(fresh, other)
    np.testing.assert_allclose(context.logits(), fresh.logits(), atol=1e-4)


def test_a_sequence_that_went_back_is_copied_after_its_next_decode(tiny: Tiny, prefill: Prefill) -> None:
    context = tiny("lfm2", n_rs_seq=4)
    prefill(context, TEXT)
    memory = context.memory
    assert memory.seq_rm(0, len(TEXT) - 2)
    with pytest.raises(pyllama.InvalidRequestError, match="was taken back by seq_rm"):
        memory.seq_cp(0, 1)
    state = context.state_seq_get(0)
    prefill(context, [40], len(TEXT) - 2)
    memory.seq_cp(0, 1)
    context.state_get()
    expected = context.logits()
    memory.clear()
    context.state_seq_set(1, state)
    assert not memory.seq_rm(1, len(TEXT) - 4)
    prefill(context, [40], len(TEXT) - 2, seq_id=1)
    np.testing.assert_allclose(context.logits(), expected, atol=1e-4)


@pytest.mark.parametrize("way", ["range", "keep", "clear"])
def test_an_emptied_sequence_begins_anew(tiny: Tiny, prefill: Prefill, way: str) -> None:
    context, fresh = tiny("lfm2", n_rs_seq=4), tiny("lfm2")
    prefill(context, TEXT)
    assert context.memory.seq_rm(0, len(TEXT) - 3)
    if way == "range":
        assert context.memory.seq_rm(0, 0, 100)
    elif way == "keep":
        context.memory.seq_keep(1)
    else:
        context.memory.clear()
    for each in (context, fresh):
        prefill(each, TEXT[:5])
    np.testing.assert_allclose(context.logits(), fresh.logits(), atol=1e-4)
