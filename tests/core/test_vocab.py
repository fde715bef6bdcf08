from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyllama
from pyllama import Context, Model, TokenAttr, Vocab
from pyllama.models import demo_model_path


def test_tokenize_gives_int32(vocab: Vocab) -> None:
    tokens = vocab.tokenize("hello 12 + 13")
    assert tokens.dtype == np.int32
    assert tokens.ndim == 1
    assert vocab.detokenize(tokens) == "hello 12 + 13"
    assert vocab.tokenize("").shape == (0,)
    assert vocab.detokenize([]) == ""


def test_special_tokens(vocab: Vocab) -> None:
    assert len(vocab) == vocab.n_tokens
    assert vocab.eos is not None
    assert vocab.is_eog(vocab.eos)
    assert vocab.sep is None
    assert not vocab.add_bos
    think = vocab.tokenize("<think>", parse_special=True)
    assert think.shape == (1,)
    assert vocab.token_to_piece(think[0]) == b"<think>"
    controls = [token for token in range(len(vocab)) if vocab.is_control(token)]
    assert controls
    assert vocab.token_to_piece(controls[0], special=False) == b""
    name = vocab.token_to_piece(controls[0]).decode()
    assert vocab.tokenize(name).tolist() == [controls[0]]
    assert len(vocab.tokenize(name, parse_special=False)) > 1


def test_what_the_vocabulary_says_of_a_token(vocab: Vocab, tiny: Callable[..., Context]) -> None:
    assert vocab.type == "bpe"
    assert vocab.attr(vocab.eos) & TokenAttr.CONTROL
    word = vocab.tokenize(" the")[0]
    assert vocab.attr(word) == TokenAttr.NORMAL
    assert vocab.text(word).startswith("Ġ")
    pieces = tiny("llama").model.vocab
    assert pieces.type == "spm"
    assert pieces.score(10) == -10.0
    assert pieces.attr(0) & TokenAttr.UNKNOWN
    assert pieces.attr(63) & TokenAttr.BYTE
    assert pieces.text(3) == "a"
    for call in (vocab.text, vocab.score, vocab.attr):
        with pytest.raises(pyllama.InvalidRequestError, match="outside the vocabulary"):
            call(len(vocab))


def test_special_tokens_of_other_vocabularies(vocab: Vocab, tiny: Callable[..., Context]) -> None:
    words = tiny("bert").model.vocab
    assert words.type == "wpm"
    assert (words.bos, words.sep, words.pad, words.mask) == (2, 3, 0, 4)
    assert words.add_bos
    assert words.suppress_tokens.tolist() == []
    assert vocab.mask is None
    for name in ("fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep"):
        token = getattr(vocab, name)
        assert token is None or 0 <= token < len(vocab)
    assert not vocab.add_eos
    assert not vocab.add_sep


def test_pieces_make_up_the_text(vocab: Vocab) -> None:
    text = "Größe: 漢字 🙂 12"
    pieces = [vocab.token_to_piece(token) for token in vocab.tokenize(text)]
    assert b"".join(pieces).decode() == text


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=60))
def test_any_text_comes_back(text: str) -> None:
    assert _VOCAB.detokenize(_VOCAB.tokenize(text)) == text


@pytest.mark.parametrize("token", [-1, 1 << 20, 1 << 40])
def test_tokens_outside_are_named(vocab: Vocab, token: int) -> None:
    for call in (vocab.token_to_piece, vocab.is_eog, vocab.is_control):
        with pytest.raises(pyllama.InvalidRequestError, match=f"token {token} is outside"):
            call(token)
    with pytest.raises(pyllama.InvalidRequestError, match="token"):
        vocab.detokenize([0, token])


def test_bad_types(vocab: Vocab) -> None:
    with pytest.raises(TypeError):
        vocab.tokenize(b"bytes")
    with pytest.raises(TypeError):
        vocab.tokenize(None)
    with pytest.raises(pyllama.InvalidRequestError, match="surrogate"):
        vocab.tokenize("a\ud800b")
    for tokens in ("abc", b"abc", [1.5], np.array([1.0]), ["x"], np.array([True])):
        with pytest.raises(TypeError):
            vocab.detokenize(tokens)
    with pytest.raises(pyllama.InvalidRequestError, match="one dimension"):
        vocab.detokenize(np.zeros((2, 2), np.int32))


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_all_integer_arrays_are_taken(vocab: Vocab, dtype: str) -> None:
    tokens = np.array([40, 50, 60, 70], dtype)
    assert vocab.detokenize(tokens) == vocab.detokenize([40, 50, 60, 70])
    assert vocab.detokenize(tokens[::2]) == vocab.detokenize([40, 60])
    assert vocab.detokenize(tokens[::-1]) == vocab.detokenize([70, 60, 50, 40])


def test_numbers_that_do_not_fit(vocab: Vocab) -> None:
    with pytest.raises(pyllama.InvalidRequestError, match=r"tokens\[1\]=4294967296"):
        vocab.detokenize(np.array([1, 1 << 32]))
    with pytest.raises(pyllama.InvalidRequestError, match="fit into 32 bits"):
        vocab.detokenize([1 << 32])


_MODEL = Model(demo_model_path(), vocab_only=True)
_VOCAB = _MODEL.vocab


def teardown_module() -> None:
    _MODEL.close()
