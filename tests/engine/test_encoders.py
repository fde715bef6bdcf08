"""A tiny encoder with random weights: embeddings and ranks only, whatever a request asks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_calls import body_of, check_equal, embed, unit, vectors
from tiny_models import write_bert

from pyllama import Batch, Context, Model
from pyllama._core import _llama
from pyllama.errors import InvalidRequestError, UnsupportedError

TEXTS = ["a b c", "d", "h e l l o", "w o r l d", "a a a a a a a a"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("encoder") / "bert.gguf"
    write_bert(path)
    return path


def make_core(path: Path, *flags: str) -> _llama.Engine:
    return _llama.Engine(_llama.ServerParams(["--model", str(path), "--threads", "1", *flags]))


@pytest.fixture(scope="module")
def core(path: Path) -> Iterator[_llama.Engine]:
    core = make_core(path, "--embeddings", "--parallel", "2")
    yield core
    core.close()


@pytest.fixture(scope="module")
def ranker(path: Path) -> Iterator[_llama.Engine]:
    core = make_core(path, "--reranking", "--parallel", "3")
    yield core
    core.close()


def test_equal_to_a_plain_context(core: _llama.Engine, path: Path) -> None:
    found = vectors(embed(core, input=TEXTS))
    with Model(path) as model:
        for text, row in zip(TEXTS, found, strict=True):
            tokens = core.tokenize(text, add_special=True)
            with Context(model, n_ctx=128, n_threads=1, embeddings=True) as context:
                batch = Batch(len(tokens))
                batch.add_sequence(tokens, 0, 0, "all")
                context.encode(batch)
                check_equal(row, unit(context.embeddings_seq(0)))


def rank(core: _llama.Engine, **fields: Any) -> Any:
    return body_of(core, core.prepare_rerank(json.dumps(fields).encode()))


def test_ranks(ranker: _llama.Engine) -> None:
    answer = rank(ranker, query="a b", documents=TEXTS)
    scores = [entry["relevance_score"] for entry in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert sorted(entry["index"] for entry in answer["results"]) == list(range(5))
    alone = {i: rank(ranker, query="a b", documents=[text]) for i, text in enumerate(TEXTS)}
    for entry in answer["results"]:
        (only,) = alone[entry["index"]]["results"]
        assert entry["relevance_score"] == pytest.approx(only["relevance_score"], abs=1e-4)
    # Both texts, [CLS] and [SEP]s: as many tokens as the model reads.
    n = sum(each["usage"]["prompt_tokens"] for each in alone.values())
    assert answer["usage"] == {"prompt_tokens": n, "total_tokens": n}


def test_forms_of_ranks(ranker: _llama.Engine) -> None:
    best = rank(ranker, query="a b", documents=TEXTS)["results"][:2]
    assert rank(ranker, query="a b", documents=TEXTS, top_n=2)["results"] == best
    assert len(rank(ranker, query="a b", documents=TEXTS, top_n=99)["results"]) == 5
    tei = rank(ranker, query="a b", texts=TEXTS, top_n=2, return_text=True)
    assert [entry["text"] for entry in tei] == [TEXTS[entry["index"]] for entry in best]
    assert [entry["score"] for entry in tei] == [entry["relevance_score"] for entry in best]


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("query", {"documents": ["a"]}),
        ("query", {"query": 1, "documents": ["a"]}),
        ("documents", {"query": "a"}),
        ("documents", {"query": "a", "documents": []}),
        ("documents", {"query": "a", "documents": 5}),
        ("documents[1]", {"query": "a", "documents": ["a", 2]}),
        ("texts[0]", {"query": "a", "texts": [1]}),
        ("top_n", {"query": "a", "documents": ["a"], "top_n": -1}),
        ("return_text", {"query": "a", "texts": ["a"], "return_text": "yes"}),
        ("documents", {"query": "a", "documents": ["a"] * 2049}),
    ],
)
def test_errors(ranker: _llama.Engine, field: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        rank(ranker, **fields)
    assert caught.value.param == field


def test_an_encoder_generates_nothing(core: _llama.Engine) -> None:
    prepared = core.prepare_completion(b'{"prompt": "a b c"}')
    with pytest.raises(UnsupportedError, match="embeddings"):
        core.submit(prepared)
    assert len(vectors(embed(core, input="a"))) == 1


def test_more_than_the_model_reads(core: _llama.Engine, path: Path) -> None:
    for n in (127, 128, 129, 600):
        with pytest.raises(InvalidRequestError):
            embed(core, input="a " * n)
    rows = vectors(embed(core, input=["a " * 126, "b"]))
    assert np.isfinite(rows).all()
    # Sequences that do not divide a step evenly.
    for n_parallel in ("3", "5", "7"):
        odd = make_core(path, "--embeddings", "--parallel", n_parallel, "--ubatch-size", "64")
        try:
            check_equal(vectors(embed(odd, input=TEXTS)), vectors(embed(core, input=TEXTS)))
        finally:
            odd.close()
