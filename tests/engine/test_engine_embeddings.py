"""Embeddings and ranks through Engine and SyncEngine; their values are checked in test_embeddings.py."""

from __future__ import annotations

from pathlib import Path

import anyio
import numpy as np
import pytest
from tiny_models import write_bert

from pyllama import Batch, Context, Engine, Model, Ranked, SyncEngine
from pyllama.errors import InvalidRequestError, UnsupportedError

TEXTS = ["What is 17 + 25?", "Reverse the word happy.", "What is 3 + 4?"]
FLAGS = {"n_ctx": 1024, "n_threads": 1, "embeddings": True, "pooling": "mean"}


def test_the_engines_agree() -> None:
    with SyncEngine(**FLAGS) as engine:
        vectors = engine.embeddings(TEXTS)
        tokens = [engine.tokenize(text, add_special=True) for text in TEXTS]
        np.testing.assert_allclose(engine.embeddings(tokens), vectors, atol=2e-3)
        with pytest.raises(UnsupportedError, match="--rerank"):
            engine.rerank("a", ["b"])
    assert vectors.dtype == np.float32
    assert vectors.shape[0] == len(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[2] > vectors[0] @ vectors[1]

    async def main() -> None:
        async with Engine(**FLAGS) as engine:
            np.testing.assert_allclose(await engine.embeddings(TEXTS), vectors, atol=2e-3)
            with pytest.raises(UnsupportedError):
                await engine.rerank("a", ["b"])

    anyio.run(main, backend="trio")


def test_an_engine_for_chat_says_so() -> None:
    with SyncEngine(n_ctx=512, n_threads=1) as engine, pytest.raises(UnsupportedError, match="--embeddings"):
        engine.embeddings(["a"])


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reranker") / "bert.gguf"
    write_bert(path)
    return path


QUERY = "a b"
DOCUMENTS = ["h e l l o", "a b c", "d", "w o r l d", "a a a a"]


def test_ranks_are_those_of_a_plain_context(reranker: Path) -> None:
    with SyncEngine(reranker, n_threads=1, reranking=True) as engine:
        ranks = engine.rerank(QUERY, DOCUMENTS)
        pairs = [engine.tokenize(QUERY, add_special=True) + engine.tokenize(text) for text in DOCUMENTS]
        assert engine.rerank(QUERY, DOCUMENTS, top_n=2) == ranks[:2]
        with pytest.raises(InvalidRequestError, match="documents"):
            engine.rerank(QUERY, [])
        with pytest.raises(UnsupportedError):
            engine.chat([{"role": "user", "content": QUERY}])
    assert [each.score for each in ranks] == sorted((each.score for each in ranks), reverse=True)
    assert sorted(each.index for each in ranks) == list(range(len(DOCUMENTS)))
    options = {"n_ctx": 128, "n_threads": 1, "embeddings": True, "pooling": "rank"}
    with Model(reranker) as model:
        for each in ranks:
            tokens = pairs[each.index]
            with Context(model, **options) as context:
                batch = Batch(len(tokens))
                batch.add_sequence(tokens, 0, 0)
                context.encode(batch)
                assert each.score == pytest.approx(float(context.embeddings_seq(0)[0]), abs=1e-4)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_many_rank_at_once(reranker: Path, loop: str) -> None:
    with SyncEngine(reranker, n_threads=1, reranking=True) as engine:
        expected = [engine.rerank(text, DOCUMENTS) for text in DOCUMENTS]
    found: dict[int, list[Ranked]] = {}

    async def main() -> None:
        async with Engine(reranker, n_threads=1, reranking=True, n_parallel=2) as engine:

            async def rank(i: int) -> None:
                found[i] = await engine.rerank(DOCUMENTS[i], DOCUMENTS)

            async with anyio.create_task_group() as group:
                for i in range(len(DOCUMENTS)):
                    group.start_soon(rank, i)

    anyio.run(main, backend=loop)
    for i, ranks in enumerate(expected):
        assert [each.index for each in found[i]] == [each.index for each in ranks]
        assert [each.score for each in found[i]] == pytest.approx([each.score for each in ranks], abs=1e-4)
