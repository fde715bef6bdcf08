"""Embeddings and ranks through Engine and SyncEngine; their values are checked in test_embeddings.py."""

from __future__ import annotations

import anyio
import numpy as np
import pytest

from pyllama import Engine, SyncEngine
from pyllama.errors import UnsupportedError

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
