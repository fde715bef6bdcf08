import numpy as np
import pytest

import pyllama
from pyllama import Batch


def test_fills_and_clears() -> None:
    batch = Batch(8, 2)
    assert (len(batch), batch.n_tokens, batch.capacity) == (0, 0, 8)
    assert batch.add(5, 0, [0, 1]) == 0
    assert batch.add(5, 1, 1, logits=True) == 1
    batch.add_sequence(np.arange(4, dtype=np.int32), 0, 0, logits="all")
    batch.add_sequence((1, 2), 4, 0, logits="none")
    assert len(batch) == 8
    batch.clear()
    assert len(batch) == 0
    batch.add_sequence([], 0, 0)
    assert len(batch) == 0


def test_room_is_checked() -> None:
    batch = Batch(3)
    batch.add_sequence([1, 2], 0, 0)
    with pytest.raises(pyllama.InvalidRequestError, match="2 more tokens do not fit: the batch holds 2 of 3"):
        batch.add_sequence([1, 2], 2, 0)
    batch.add(1, 2, 0)
    with pytest.raises(pyllama.InvalidRequestError, match="1 more tokens do not fit"):
        batch.add(1, 3, 0)
    assert len(batch) == 3


@pytest.mark.parametrize("sizes", [(0,), (-1,), (1 << 40,), (1, 0), (1, 257)])
def test_bad_sizes(sizes: tuple[int, ...]) -> None:
    with pytest.raises(pyllama.InvalidRequestError, match="must be in"):
        Batch(*sizes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 0, 0), "token=-1"),
        ((1 << 40, 0, 0), "token="),
        ((1, -1, 0), "pos=-1"),
        ((1, 1 << 31, 0), "pos="),
        ((1, 0, -1), "seq_ids=-1"),
        ((1, 0, 256), "seq_ids=256"),
        ((1, 0, []), "1 to 2 sequences, not 0"),
        ((1, 0, [0, 1, 2]), "1 to 2 sequences, not 3"),
        ((1, 0, [1, 1]), "sequence 1 is named twice"),
    ],
)
def test_bad_tokens(arguments: tuple[object, ...], message: str) -> None:
    batch = Batch(4, 2)
    with pytest.raises(pyllama.InvalidRequestError, match=message):
        batch.add(*arguments)
    assert len(batch) == 0


def test_bad_sequences() -> None:
    batch = Batch(4)
    for pos, seq_id, logits, name in (
        (-1, 0, "last", "pos"),
        (0, 256, "last", "seq_id"),
        (0, 0, "some", "logits"),
    ):
        with pytest.raises(pyllama.InvalidRequestError) as caught:
            batch.add_sequence([1, 2], pos, seq_id, logits)
        assert caught.value.param == name
    with pytest.raises(pyllama.InvalidRequestError, match="go beyond position"):
        batch.add_sequence([1, 2], (1 << 30) - 1, 0)
    for tokens in ("ab", [1.5], None):
        with pytest.raises(TypeError):
            batch.add_sequence(tokens, 0, 0)
    with pytest.raises(TypeError, match="integer"):
        batch.add(1.0, 0, 0)
    assert len(batch) == 0


def test_embeddings_have_the_batchs_width() -> None:
    assert Batch(4).n_embd == 0
    with pytest.raises(pyllama.InvalidRequestError, match="make it with n_embd"):
        Batch(4).add_embeddings(np.zeros((1, 3)), 0, 0)
    batch = Batch(4, n_embd=3)
    assert batch.n_embd == 3
    for shape in ((1, 4), (3,), (1, 1, 3)):
        with pytest.raises(pyllama.InvalidRequestError, match=r"shape \(n, 3\)"):
            batch.add_embeddings(np.zeros(shape), 0, 0)
    with pytest.raises(pyllama.InvalidRequestError, match="5 more tokens do not fit"):
        batch.add_embeddings(np.zeros((5, 3)), 0, 0)
    with pytest.raises(ValueError, match="could not convert"):
        batch.add_embeddings([["a", "b", "c"]], 0, 0)
    assert len(batch) == 0
    batch.add_embeddings([[1, 2, 3], [4, 5, 6]], 0, 0)
    batch.add_embeddings(np.zeros((0, 3)), 2, 0)
    batch.add(5, 2, 0)
    assert len(batch) == 3
    batch.clear()
    assert len(batch) == 0


def test_embeddings_are_finite() -> None:
    batch = Batch(4, n_embd=2)
    for value in (np.nan, np.inf):
        with pytest.raises(pyllama.InvalidRequestError, match="rows holds NaN"):
            batch.add_embeddings([[0, value]], 0, 0)


@pytest.mark.parametrize(
    ("pos", "error", "words"),
    [
        ([[0, 0], [0, 1]], pyllama.InvalidRequestError, r"shape \(2, 3\) or \(2, 4\), not \(2, 2\)"),
        ([0, 1], pyllama.InvalidRequestError, r"not \(2,\)"),
        ([[0, 0, 0]], pyllama.InvalidRequestError, r"not \(1, 3\)"),
        ([[0, 0, -1]] * 2, pyllama.InvalidRequestError, "pos must be in"),
        ([[0, 0, 1 << 30]] * 2, pyllama.InvalidRequestError, "pos must be in"),
        ([[0, 0, 0.5]] * 2, TypeError, "pos must be integers"),
    ],
)
def test_positions_in_sections_are_checked(pos: object, error: type[Exception], words: str) -> None:
    batch = Batch(4, n_embd=2)
    with pytest.raises(error, match=words):
        batch.add_embeddings(np.zeros((2, 2)), pos, 0)
    assert len(batch) == 0
    batch.add_embeddings(np.zeros((2, 2)), np.int64(3), 0)


def test_a_token_below_zero_is_no_embedding() -> None:
    batch = Batch(4, n_embd=3)
    with pytest.raises(pyllama.InvalidRequestError, match=r"tokens\[1\]=-1 is no token"):
        batch.add_sequence([1, -1], 0, 0)
    assert len(batch) == 0
