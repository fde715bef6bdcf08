"""Embeddings of the engine against a plain context that decodes one input alone."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from embedding_calls import body_of, check_equal, embed, unit, vectors

from pyllama import Batch, Context, Model
from pyllama._core import _llama
from pyllama.errors import ContextLengthError, InvalidRequestError, UnsupportedError
from pyllama.models import demo_model_path

TEXTS = ["What is 17 + 25?", "Hello!", "How many r are in strawberry?", "Reverse the word lamp."]
Floats = npt.NDArray[np.float32]


def make_core(*flags: str) -> _llama.Engine:
    base = ("--model", str(demo_model_path()), "--ctx-size", "1024", "--threads", "1")
    return _llama.Engine(_llama.ServerParams([*base, *flags]))


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    with Model(demo_model_path()) as loaded:
        yield loaded


def plain(model: Model, pooling: str, tokens: list[int]) -> Floats:
    """What one context gives for one input: (rows, n_embd)."""
    n = len(tokens)
    with Context(model, n_ctx=1024, n_threads=1, embeddings=True, pooling=pooling) as context:  # type: ignore[arg-type]
        batch = Batch(n)
        batch.add_sequence(tokens, 0, 0, "all")
        context.decode(batch)
        if pooling == "none":
            return np.stack([context.embeddings(i) for i in range(n)])
        return context.embeddings_seq(0)[None]


@pytest.mark.parametrize("kv", ["--kv-unified", "--no-kv-unified"])
@pytest.mark.parametrize("pooling", ["mean", "last", "cls", "none"])
def test_equal_to_a_plain_context(model: Model, pooling: str, kv: str) -> None:
    core = make_core("--embeddings", "--pooling", pooling, "--parallel", "4", kv)
    try:
        answers = embed(core, "native", input=TEXTS)
        for text, answer in zip(TEXTS, answers, strict=True):
            expected = plain(model, pooling, core.tokenize(text, add_special=True))
            expected = expected if pooling == "none" else unit(expected)
            check_equal(answer["embedding"], expected)
        assert [answer["index"] for answer in answers] == [0, 1, 2, 3]
    finally:
        core.close()


@pytest.fixture(scope="module")
def core() -> Iterator[_llama.Engine]:
    core = make_core("--embeddings", "--pooling", "last", "--parallel", "2", "--ubatch-size", "64")
    yield core
    core.close()


def test_more_inputs_than_slots_and_ubatches(core: _llama.Engine) -> None:
    texts = [f"What is {i} + {i + 1}?" for i in range(50)]
    together = vectors(embed(core, input=texts))
    alone = np.concatenate([vectors(embed(core, input=text)) for text in texts[:5]])
    check_equal(together[:5], alone)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_an_input_longer_than_a_ubatch(core: _llama.Engine, model: Model) -> None:
    text = "Reverse the word lamp, then spell it. " * 12
    tokens = core.tokenize(text, add_special=True)
    assert len(tokens) > 64
    found = vectors(embed(core, input=text))
    check_equal(found, unit(plain(model, "last", tokens)))


def test_forms_of_input(core: _llama.Engine) -> None:
    text = "Hello!"
    tokens = core.tokenize(text, add_special=True)
    content = {"content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo!"}]}
    found = vectors(embed(core, input=[text, tokens, {"prompt_string": text}, content]))
    check_equal(found, found[:1].repeat(4, axis=0))
    check_equal(vectors(embed(core, input=tokens)), found[:1])


def test_base64_and_usage(core: _llama.Engine) -> None:
    answer = embed(core, input=TEXTS, model="mine")
    assert answer["model"] == "mine"
    n = sum(len(core.tokenize(text, add_special=True)) for text in TEXTS)
    assert answer["usage"] == {"prompt_tokens": n, "total_tokens": n}
    encoded = embed(core, input=TEXTS, encoding_format="base64")
    decoded = [np.frombuffer(base64.b64decode(entry["embedding"]), np.float32) for entry in encoded["data"]]
    check_equal(np.stack(decoded), vectors(answer))


def test_normalisation(core: _llama.Engine) -> None:
    raw = np.array(embed(core, "native", content="Hello!", embd_normalize=-1)[0]["embedding"])
    assert abs(np.linalg.norm(raw) - 1) > 0.01
    taxicab = np.array(embed(core, "native", content="Hello!", embd_normalize=1)[0]["embedding"])
    check_equal(taxicab, raw / np.abs(raw).sum())


def test_generation_goes_on_beside_embeddings(core: _llama.Engine) -> None:
    """Steps of both classes take turns, and neither changes what the other gives."""
    fields = {"prompt": "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n"}
    fields |= {"temperature": 0, "n_predict": 200}  # type: ignore[dict-item]
    body = json.dumps(fields).encode()
    alone = body_of(core, core.prepare_completion(body))
    expected = vectors(embed(core, input=TEXTS))
    found: list[Floats] = []
    worker = threading.Thread(
        target=lambda: found.extend(vectors(embed(core, input=TEXTS)) for _ in range(20))
    )
    worker.start()
    beside = body_of(core, core.prepare_completion(body))
    worker.join()
    assert beside["content"] == alone["content"]
    assert "42" in alone["content"]
    assert len(found) == 20
    for each in found:
        check_equal(each, expected)


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("input", {}),
        ("input", {"input": []}),
        ("input", {"input": 5}),
        ("input", {"input": True}),
        ("input[1]", {"input": ["a", [True]]}),
        ("input", {"input": [-1]}),
        ("input", {"input": ""}),
        ("input.content", {"input": {"content": "text"}}),
        ("input.content[0].type", {"input": {"content": [{}]}}),
        ("input.content[0]", {"input": {"content": [{"type": "image_url"}]}}),
        ("encoding_format", {"input": "a", "encoding_format": 1}),
        ("encoding_format", {"input": "a", "encoding_format": "hex"}),
        ("embd_normalize", {"input": "a", "embd_normalize": "l2"}),
        ("embd_normalize", {"input": "a", "embd_normalize": -2}),
        ("model", {"input": "a", "model": 1}),
        ("input", {"input": ["a"] * 2049}),
    ],
)
def test_errors(core: _llama.Engine, field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        embed(core, **fields)
    assert caught.value.param == field


def test_inputs_that_do_not_fit(core: _llama.Engine) -> None:
    with pytest.raises(ContextLengthError):
        embed(core, input="Hello " * 2000)
    whole = make_core("--embeddings", "--pooling", "mean", "--parallel", "1", "--ubatch-size", "64")
    try:
        with pytest.raises(InvalidRequestError, match="too large to process"):
            embed(whole, input="Hello " * 100)
    finally:
        whole.close()


def test_only_where_asked_for(core: _llama.Engine) -> None:
    with pytest.raises(UnsupportedError, match="--reranking"):
        core.prepare_rerank(b'{"query": "a", "documents": ["b"]}')
    other = make_core("--parallel", "1")
    try:
        with pytest.raises(UnsupportedError, match="--embeddings"):
            embed(other, input="a")
    finally:
        other.close()


def test_per_token_rows_are_not_openai() -> None:
    core = make_core("--embeddings", "--pooling", "none", "--parallel", "1")
    try:
        with pytest.raises(InvalidRequestError, match="none"):
            embed(core, input="a")
        many = ["What is 17 + 25? " * 30] * 1000
        with pytest.raises(InvalidRequestError, match="without pooling"):
            embed(core, "native", input=many)
        (answer,) = embed(core, "native", input="Hello!")
        assert len(answer["embedding"]) == len(core.tokenize("Hello!", add_special=True))
    finally:
        core.close()


def test_close_with_inputs_waiting() -> None:
    core = make_core("--embeddings", "--pooling", "mean", "--parallel", "1")
    body = json.dumps({"input": TEXTS * 400}).encode()
    streams = [core.submit(core.prepare_embeddings(body)) for _ in range(3)]
    streams[2].cancel()
    core.close()
    assert all(stream.state == "finished" for stream in streams)
